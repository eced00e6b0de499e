//! What the firmware says of the machine, as the kernel shows it in
//! `/sys/class/dmi/id` (`drivers/firmware/dmi-id.c`). No driver and no program is
//! needed, and nothing is asked of the network.

use std::path::Path;

use super::Machine;

const FOLDER: &str = "/sys/class/dmi/id";
/// Xen's guests without firmware tables have their identity here.
const HYPERVISOR_UUID: &str = "/sys/hypervisor/uuid";
/// Longest field, in bytes; the kernel gives at most a page.
const LONGEST: u64 = 4096;

/// A field by the kernel's name; `None` when there is none, or it says nothing.
pub(super) fn field(machine: &dyn Machine, name: &str) -> Option<String> {
    read(machine, &format!("{FOLDER}/{name}"))
}

fn read(machine: &dyn Machine, path: &str) -> Option<String> {
    let content = machine.read_file(Path::new(path), LONGEST).ok()?;
    let text = String::from_utf8_lossy(&content.bytes).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// Whether this is an instance of EC2, of any generation: Nitro and bare metal name
/// the vendor, or carry the instance's ID as asset tag; on Xen serial number and
/// UUID begin with `ec2`.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/identify_ec2_instances.html>
pub(super) fn is_ec2(machine: &dyn Machine) -> bool {
    let is = |name: &str, test: &dyn Fn(&str) -> bool| {
        field(machine, name).is_some_and(|value| test(&value.to_ascii_lowercase()))
    };
    let vendor = |value: &str| value == "amazon ec2";
    is("sys_vendor", &vendor)
        || is("bios_vendor", &vendor)
        || is("board_asset_tag", &is_instance_id)
        // One of the two alone can be an accident: a UUID in 4096 begins so.
        || (is("product_serial", &|value| value.starts_with("ec2"))
            && is("product_uuid", &is_ec2_uuid))
        || read(machine, HYPERVISOR_UUID)
            .is_some_and(|value| value.to_ascii_lowercase().starts_with("ec2"))
}

/// `i-` and 8 or 17 hexadecimal digits.
fn is_instance_id(value: &str) -> bool {
    value.strip_prefix("i-").is_some_and(|digits| {
        matches!(digits.len(), 8 | 17) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// Begins with `ec2`, or does so with its first four bytes in the other order, as
/// firmware tables before 2.6 are read.
fn is_ec2_uuid(value: &str) -> bool {
    let swapped = value.get(4..8).is_some_and(|text| {
        let (low, high) = text.split_at(2);
        high == "ec" && low.starts_with('2')
    });
    value.starts_with("ec2") || swapped
}

/// Whether VMware's hypervisor runs this machine.
pub(super) fn is_vmware(machine: &dyn Machine) -> bool {
    ["sys_vendor", "product_name"].iter().any(|name| {
        field(machine, name).is_some_and(|value| value.to_ascii_lowercase().contains("vmware"))
    })
}

/// Names that cloud-init has for fields, and the kernel's.
const FIELDS: [(&str, &str); 17] = [
    ("baseboard-asset-tag", "board_asset_tag"),
    ("baseboard-manufacturer", "board_vendor"),
    ("baseboard-product-name", "board_name"),
    ("baseboard-serial-number", "board_serial"),
    ("baseboard-version", "board_version"),
    ("bios-release-date", "bios_date"),
    ("bios-vendor", "bios_vendor"),
    ("bios-version", "bios_version"),
    ("chassis-asset-tag", "chassis_asset_tag"),
    ("chassis-manufacturer", "chassis_vendor"),
    ("chassis-serial-number", "chassis_serial"),
    ("chassis-version", "chassis_version"),
    ("system-manufacturer", "sys_vendor"),
    ("system-product-name", "product_name"),
    ("system-serial-number", "product_serial"),
    ("system-uuid", "product_uuid"),
    ("system-version", "product_version"),
];

/// Fills `__dmi.NAME__` in, so that one line serves a fleet. Names that are not
/// known stay as they are; fields that say nothing are empty.
pub(super) fn expand(text: &str, field: &dyn Fn(&str) -> Option<String>) -> String {
    let mut expanded = text.to_owned();
    for (name, kernel_name) in FIELDS {
        let variable = format!("__dmi.{name}__");
        if expanded.contains(&variable) {
            expanded = expanded.replace(&variable, &field(kernel_name).unwrap_or_default());
        }
    }
    expanded
}

#[cfg(test)]
mod tests;
