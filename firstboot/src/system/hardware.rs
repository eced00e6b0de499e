//! What a machine is made of and called, as the kernel shows it.

use super::Files;
use crate::render::Names;

/// Longest file that is read here, in bytes: all hold one word.
const LIMIT: usize = 4096;

/// Vendor of a PCI device that is NVIDIA's.
const NVIDIA: &str = "0x10de";

fn word(files: &dyn Files, path: &str) -> Option<String> {
    let bytes = files.read(path, LIMIT).ok().flatten()?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// What the machine is called by those who made and run it.
pub(super) fn names(files: &dyn Files) -> Names {
    Names {
        host_name: word(files, "/proc/sys/kernel/hostname"),
        smbios_uuid: word(files, "/sys/class/dmi/id/product_uuid"),
        smbios_serial: word(files, "/sys/class/dmi/id/product_serial"),
        mac: mac(files),
    }
}

/// Address of the interface with the lowest number that is a device, and not made
/// up by the kernel as bridges and bonds are.
fn mac(files: &dyn Files) -> Option<String> {
    const FOLDER: &str = "/sys/class/net";
    files
        .names(FOLDER)
        .ok()?
        .into_iter()
        .filter(|name| files.resolve(&format!("{FOLDER}/{name}/device")).is_some())
        .filter_map(|name| {
            let index: u32 = word(files, &format!("{FOLDER}/{name}/ifindex"))?
                .parse()
                .ok()?;
            Some((index, word(files, &format!("{FOLDER}/{name}/address"))?))
        })
        .min()
        .map(|(_, address)| address)
}

/// Whether a PCI device of NVIDIA is in the machine.
pub(super) fn has_nvidia_gpu(files: &dyn Files) -> bool {
    const FOLDER: &str = "/sys/bus/pci/devices";
    files
        .names(FOLDER)
        .unwrap_or_default()
        .iter()
        .any(|name| word(files, &format!("{FOLDER}/{name}/vendor")).as_deref() == Some(NVIDIA))
}

/// Memory in the blocks that are online, in KiB; 0 where the kernel has no blocks.
pub(super) fn online_memory_kib(files: &dyn Files) -> u64 {
    const FOLDER: &str = "/sys/devices/system/memory";
    let size = word(files, &format!("{FOLDER}/block_size_bytes"))
        .and_then(|text| u64::from_str_radix(&text, 16).ok())
        .unwrap_or(0);
    let blocks = files
        .names(FOLDER)
        .unwrap_or_default()
        .into_iter()
        .filter(|name| {
            name.strip_prefix("memory").is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit())
            })
        })
        .filter(|name| word(files, &format!("{FOLDER}/{name}/state")).as_deref() == Some("online"))
        .count();
    (size / 1024).saturating_mul(blocks as u64)
}

#[cfg(test)]
mod tests {
    use super::super::pretended::Pretended;
    use super::*;

    fn machine(files: &[(&str, &str)]) -> Pretended {
        let machine = Pretended::default();
        for (path, content) in files {
            machine.put(path, content.as_bytes(), 0o444);
        }
        machine
    }

    #[test]
    fn names_are_read_and_the_first_device_gives_the_address() {
        let machine = machine(&[
            ("/proc/sys/kernel/hostname", "rack-7\n"),
            ("/sys/class/dmi/id/product_uuid", "4c4c4544-0042\n"),
            ("/sys/class/dmi/id/product_serial", "\n"),
            ("/sys/class/net/br0/ifindex", "1\n"),
            ("/sys/class/net/br0/address", "aa:aa:aa:aa:aa:aa\n"),
            ("/sys/class/net/ens5/device/vendor", "0x1d0f\n"),
            ("/sys/class/net/ens5/ifindex", "10\n"),
            ("/sys/class/net/ens5/address", "0a:00:00:00:00:10\n"),
            ("/sys/class/net/ens6/device/vendor", "0x1d0f\n"),
            ("/sys/class/net/ens6/ifindex", "9\n"),
            ("/sys/class/net/ens6/address", "0a:00:00:00:00:09\n"),
        ]);
        assert_eq!(
            names(&machine),
            Names {
                host_name: Some("rack-7".into()),
                smbios_uuid: Some("4c4c4544-0042".into()),
                smbios_serial: None,
                mac: Some("0a:00:00:00:00:09".into()),
            }
        );
        assert_eq!(names(&Pretended::default()), Names::default());
    }

    #[test]
    fn nvidia_is_told_by_the_vendor_of_a_pci_device() {
        let path = "/sys/bus/pci/devices/0000:00:1e.0/vendor";
        assert!(has_nvidia_gpu(&machine(&[
            ("/sys/bus/pci/devices/0000:00:01.0/vendor", "0x8086\n"),
            (path, "0x10de\n")
        ])));
        assert!(!has_nvidia_gpu(&machine(&[(path, "0x1d0f\n")])));
        assert!(!has_nvidia_gpu(&machine(&[])));
    }

    #[test]
    fn only_memory_that_is_online_counts() {
        let folder = "/sys/devices/system/memory";
        let block = |name: &str| format!("{folder}/{name}");
        let paths = [
            (block("block_size_bytes"), "8000000\n"),
            (block("memory0/state"), "online\n"),
            (block("memory1/state"), "offline\n"),
            (block("memory12/state"), "online\n"),
            (block("memoryx/state"), "online\n"),
        ];
        let files: Vec<(&str, &str)> = paths
            .iter()
            .map(|(path, text)| (path.as_str(), *text))
            .collect();
        assert_eq!(online_memory_kib(&machine(&files)), 2 * 128 * 1024);
        assert_eq!(online_memory_kib(&machine(&files[1..])), 0);
    }
}
