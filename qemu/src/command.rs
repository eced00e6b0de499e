//! The command line of QEMU, from plain values.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::accelerator::AcceleratorKind;
use crate::boot::{BootOptions, HostForward, Network, SeedBus};
use crate::error::{Error, Result};
use crate::firmware::Firmware;
use crate::machine::Architecture;

/// The files of one boot, all absolute.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) console: PathBuf,
    pub(crate) control: PathBuf,
    pub(crate) disk: Option<PathBuf>,
    pub(crate) seed: Option<PathBuf>,
    /// Code, and variables if they are in a file of their own.
    pub(crate) flash: Option<(PathBuf, Option<PathBuf>)>,
}

/// All arguments.
pub(crate) fn arguments(
    options: &BootOptions,
    accelerator: AcceleratorKind,
    firmware: &Firmware,
    files: &Files,
) -> Result<Vec<OsString>> {
    let mut line = Line::default();
    line.flag("-nodefaults")
        .flag("-no-user-config")
        .pair("-name", "nodekiln")
        .pair("-display", "none")
        .pair("-m", options.memory_mib.to_string())
        .pair("-smp", options.cpus.to_string());
    match (accelerator, options.architecture) {
        (AcceleratorKind::Kvm, _) => {
            line.pair("-accel", "kvm").pair("-cpu", "host");
        }
        (AcceleratorKind::Tcg, Architecture::X86_64) => {
            line.pair("-accel", "tcg,thread=multi").pair("-cpu", "max");
        }
        (AcceleratorKind::Tcg, Architecture::Aarch64) => {
            // The architected pointer authentication takes half of the time of
            // an emulated boot.
            line.pair("-accel", "tcg,thread=multi")
                .pair("-cpu", "max,pauth-impdef=on");
        }
    }
    machine(&mut line, options, firmware, files)?;

    for (id, path) in [("console", &files.console), ("control", &files.control)] {
        let path = text(path)?.replace(',', ",,");
        // QEMU is the client: see the module `qmp`.
        line.pair("-chardev", format!("socket,id={id},server=off,path={path}"));
    }
    line.pair("-serial", "chardev:console")
        .pair("-mon", "chardev=control,mode=control")
        .pair("-device", "virtio-rng-pci");

    if let Some(disk) = &files.disk {
        // A kernel that QEMU loads is the first by itself.
        let first = match options.direct_kernel {
            Some(_) => "",
            None => ",bootindex=0",
        };
        // What is thrown away does not need to reach the disk.
        let cache = serde_json::json!({ "no-flush": options.overlay.is_none() });
        let block = serde_json::json!({
            "node-name": "disk",
            "driver": "qcow2",
            "cache": cache,
            "file": { "driver": "file", "filename": text(disk)?, "cache": cache },
        });
        line.pair("-blockdev", block.to_string())
            .pair("-device", format!("virtio-blk-pci,drive=disk{first}"));
    }
    if let Some(disk) = &options.second_disk {
        let disk = std::path::absolute(disk)
            .map_err(|error| Error::io(format!("find {}", disk.display()), error))?;
        line.pair("-blockdev", raw_file("second", &disk, false)?)
            .pair("-device", "virtio-blk-pci,drive=second");
    }
    if let Some(seed) = &files.seed {
        line.pair("-blockdev", raw_file("seed", seed, true)?);
        match (options.seed_bus, options.architecture) {
            (SeedBus::Virtio, _) => line.pair("-device", "virtio-blk-pci,drive=seed"),
            (SeedBus::Cdrom, Architecture::X86_64) => line.pair("-device", "ide-cd,drive=seed"),
            (SeedBus::Cdrom, Architecture::Aarch64) => line
                .pair("-device", "virtio-scsi-pci")
                .pair("-device", "scsi-cd,drive=seed"),
        };
    }
    network(&mut line, options)?;
    if let Some(clock) = &options.clock {
        line.pair("-rtc", format!("base={}", checked_clock(clock)?));
    }
    if let Some(fields) = smbios(options)? {
        line.pair("-smbios", fields);
    }
    if let Some(direct) = &options.direct_kernel {
        line.pair("-kernel", text(&direct.kernel)?);
        if let Some(initrd) = &direct.initrd {
            line.pair("-initrd", text(initrd)?);
        }
        line.pair("-append", &direct.command_line);
    }
    Ok(line.0)
}

fn machine(
    line: &mut Line,
    options: &BootOptions,
    firmware: &Firmware,
    files: &Files,
) -> Result<()> {
    // Without graphics, SeaBIOS speaks on the serial port.
    let mut machine = format!("{},graphics=off", options.architecture.machine());
    if let Some((code, vars)) = &files.flash {
        // A file that holds code and variables is a copy, and is written.
        line.pair("-blockdev", raw_file("firmware", code, vars.is_some())?);
        machine += ",pflash0=firmware";
        if let Some(vars) = vars {
            line.pair("-blockdev", raw_file("variables", vars, false)?);
            machine += ",pflash1=variables";
        }
    }
    if let Firmware::Uefi {
        system_management: true,
        ..
    } = firmware
    {
        machine += ",smm=on";
        line.pair("-global", "driver=cfi.pflash01,property=secure,value=on");
    }
    line.pair("-machine", machine);
    Ok(())
}

fn network(line: &mut Line, options: &BootOptions) -> Result<()> {
    let (value, mac) = match &options.network {
        Network::None => return Ok(()),
        Network::User {
            forwards,
            restricted,
        } => (user_network(forwards, *restricted), None),
        Network::Tap { name, mac } => (
            // No scripts: who made the interface has put it where it belongs.
            format!(
                "tap,id=net,ifname={},script=no,downscript=no",
                checked_tap(name)?
            ),
            mac.as_deref(),
        ),
    };
    // No option ROM: firmware must not go on to boot from the network.
    let mut device = "virtio-net-pci,netdev=net,romfile=".to_owned();
    if let Some(mac) = mac {
        device.extend([",mac=", checked_mac(mac)?]);
    }
    line.pair("-netdev", value).pair("-device", device);
    Ok(())
}

fn user_network(forwards: &[HostForward], restricted: bool) -> String {
    let mut value = "user,id=net".to_owned();
    if restricted {
        value += ",restrict=on";
    }
    for forward in forwards {
        let ports = format!("{}-:{}", forward.host_port, forward.guest_port);
        value.extend([",hostfwd=tcp:127.0.0.1:", &ports]);
    }
    value
}

/// The name of an interface, by the kernel's rules (`dev_valid_name`) and QEMU's.
fn checked_tap(name: &str) -> Result<&str> {
    let fits = |c: char| c.is_ascii_graphic() && !"/:,".contains(c);
    if (1..16).contains(&name.len()) && name.chars().all(fits) && ![".", ".."].contains(&name) {
        return Ok(name);
    }
    Err(Error::option(
        format!("interface '{}'", name.escape_default()),
        "is not 1 to 15 printable ASCII characters without '/', ':' and ','",
    ))
}

/// Six bytes in hexadecimal, the address of one card.
fn checked_mac(mac: &str) -> Result<&str> {
    let bytes: Option<Vec<u8>> = mac
        .split(':')
        .map(|byte| {
            let is_hex = byte.len() == 2 && byte.bytes().all(|b| b.is_ascii_hexdigit());
            u8::from_str_radix(byte, 16).ok().filter(|_| is_hex)
        })
        .collect();
    // The lowest bit of the first byte marks groups of cards.
    if bytes.is_some_and(|bytes| bytes.len() == 6 && bytes[0] & 1 == 0) {
        return Ok(mac);
    }
    Err(Error::option(
        format!("address '{}' of the network card", mac.escape_default()),
        "is not that of one card, such as 52:54:00:12:34:56",
    ))
}

/// A time as QEMU reads it. Whether there is such a day, QEMU says.
fn checked_clock(clock: &str) -> Result<&str> {
    let shape = "0000-00-00T00:00:00";
    let fits = clock.len() == shape.len()
        && clock
            .bytes()
            .zip(shape.bytes())
            .all(|(found, wanted)| match wanted {
                b'0' => found.is_ascii_digit(),
                _ => found == wanted,
            });
    if fits {
        return Ok(clock);
    }
    Err(Error::option(
        format!("clock '{}'", clock.escape_default()),
        "is not a time in UTC such as 2026-01-31T12:00:00",
    ))
}

fn raw_file(name: &str, path: &Path, read_only: bool) -> Result<String> {
    Ok(serde_json::json!({
        "node-name": name,
        "driver": "raw",
        "read-only": read_only,
        "file": { "driver": "file", "filename": text(path)?, "read-only": read_only },
    })
    .to_string())
}

/// What the firmware says of the machine.
fn smbios(options: &BootOptions) -> Result<Option<String>> {
    let fields = [
        ("manufacturer", &options.manufacturer),
        ("uuid", &options.uuid),
        ("serial", &options.serial_number),
    ];
    let mut text = String::new();
    for (name, value) in fields {
        let Some(value) = value else { continue };
        let fits = |c: char| c.is_ascii_graphic() || c == ' ';
        if value.is_empty() || value.len() > 64 || !value.chars().all(fits) {
            return Err(Error::option(
                format!("{name} '{}' of the machine", value.escape_default()),
                "is not 1 to 64 printable ASCII characters",
            ));
        }
        text.extend([",", name, "=", &value.replace(',', ",,")]);
    }
    Ok((!text.is_empty()).then(|| format!("type=1{text}")))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .ok_or_else(|| Error::option(format!("path '{}'", path.display()), "is not UTF-8"))
}

/// A command line that grows.
#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn flag(&mut self, flag: &str) -> &mut Self {
        self.0.push(flag.into());
        self
    }

    fn pair(&mut self, flag: &str, value: impl AsRef<str>) -> &mut Self {
        self.0.push(flag.into());
        self.0.push(value.as_ref().into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firmware::Origin;

    fn files() -> Files {
        Files {
            console: "/t/console".into(),
            control: "/t,x/control".into(),
            disk: Some("/t/overlay.qcow2".into()),
            seed: Some("/t/seed.iso".into()),
            flash: Some(("/fw/code.fd".into(), Some("/t/vars.fd".into()))),
        }
    }

    fn uefi() -> Firmware {
        Firmware::Uefi {
            code: "/fw/code.fd".into(),
            vars: Some("/fw/vars.fd".into()),
            origin: Origin::Distribution,
            system_management: false,
        }
    }

    fn joined(options: &BootOptions, accelerator: AcceleratorKind) -> String {
        arguments(options, accelerator, &uefi(), &files())
            .expect("made")
            .iter()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn a_usual_boot() {
        let options = BootOptions {
            manufacturer: Some("Some Maker".to_owned()),
            serial_number: Some("a,b".to_owned()),
            network: Network::User {
                forwards: vec![HostForward {
                    host_port: 2222,
                    guest_port: 22,
                }],
                restricted: true,
            },
            ..BootOptions::of_image("/images/node.qcow2")
        };
        insta::assert_snapshot!(joined(&options, AcceleratorKind::Tcg));
    }

    #[test]
    fn kvm_takes_the_machine_as_it_is() {
        let line = joined(&BootOptions::default(), AcceleratorKind::Kvm);
        assert!(line.contains("-accel\nkvm\n-cpu\nhost"), "{line}");
        assert!(!line.contains("tcg"));
    }

    #[test]
    fn arm_gets_its_own_devices() {
        let options = BootOptions {
            architecture: Architecture::Aarch64,
            seed_bus: SeedBus::Cdrom,
            network: Network::None,
            ..BootOptions::default()
        };
        let line = joined(&options, AcceleratorKind::Tcg);
        assert!(line.contains("virt,graphics=off"), "{line}");
        assert!(line.contains("scsi-cd,drive=seed"));
        assert!(!line.contains("netdev"));
    }

    fn of_tap(name: &str, mac: Option<&str>) -> BootOptions {
        BootOptions {
            network: Network::Tap {
                name: name.to_owned(),
                mac: mac.map(str::to_owned),
            },
            ..BootOptions::default()
        }
    }

    #[test]
    fn an_interface_of_this_machine_and_another_time() {
        let options = BootOptions {
            clock: Some("2026-01-31T12:00:00".to_owned()),
            ..of_tap("tap-1", Some("0a:ff:11:22:33:44"))
        };
        let line = joined(&options, AcceleratorKind::Tcg);
        for part in [
            "-netdev\ntap,id=net,ifname=tap-1,script=no,downscript=no\n",
            "-device\nvirtio-net-pci,netdev=net,romfile=,mac=0a:ff:11:22:33:44\n",
            "-rtc\nbase=2026-01-31T12:00:00",
        ] {
            assert!(line.contains(part), "{line}");
        }
        let line = joined(&of_tap("tap-1", None), AcceleratorKind::Tcg);
        assert!(!line.contains("mac="), "{line}");
        assert!(!line.contains("-rtc"), "{line}");
    }

    #[test]
    fn only_what_is_kept_has_to_reach_the_disk() {
        let line = joined(&BootOptions::default(), AcceleratorKind::Tcg);
        assert!(line.contains("\"no-flush\":true"), "{line}");
        let options = BootOptions {
            overlay: Some("/t/kept.qcow2".into()),
            ..BootOptions::default()
        };
        let line = joined(&options, AcceleratorKind::Tcg);
        assert!(!line.contains("\"no-flush\":true"), "{line}");
    }

    #[test]
    fn interfaces_addresses_and_times_are_checked() {
        let refused = |options: &BootOptions| {
            let made = arguments(options, AcceleratorKind::Tcg, &uefi(), &files());
            made.expect_err("refused").to_string()
        };
        for name in [
            "",
            ".",
            "a/b",
            "a,script=/bin/sh",
            "a b",
            "sixteen-letters-",
        ] {
            assert!(
                refused(&of_tap(name, None)).contains("interface '"),
                "{name}"
            );
        }
        for mac in [
            "",
            "0a:ff:11:22:33",
            "01:ff:11:22:33:44",
            "0a:ff:11:22:33:4g",
            "0a:ff:11:22:33:44,x=y",
            "+a:ff:11:22:33:44",
        ] {
            assert!(
                refused(&of_tap("tap0", Some(mac))).contains("address '"),
                "{mac}"
            );
        }
        for clock in [
            "",
            "now",
            "2026-01-31",
            "2026-01-31T12:00:00,x=y",
            "2026-01-31 12:00:00",
        ] {
            let options = BootOptions {
                clock: Some(clock.to_owned()),
                ..BootOptions::default()
            };
            assert!(refused(&options).contains("clock '"), "{clock}");
        }
    }

    #[test]
    fn a_machine_that_keeps_a_disk_and_who_it_is() {
        let options = BootOptions {
            second_disk: Some("/t/state.raw".into()),
            uuid: Some("6b8a8b6e-0000-4000-8000-000000000001".to_owned()),
            ..BootOptions::default()
        };
        let line = joined(&options, AcceleratorKind::Tcg);
        for part in [
            "\"filename\":\"/t/state.raw\",\"read-only\":false",
            "-device\nvirtio-blk-pci,drive=second\n",
            "-smbios\ntype=1,uuid=6b8a8b6e-0000-4000-8000-000000000001",
        ] {
            assert!(line.contains(part), "{line}");
        }
    }

    #[test]
    fn a_serial_number_is_checked() {
        for serial in ["", "a\nb", &"x".repeat(65)] {
            let options = BootOptions {
                serial_number: Some(serial.to_owned()),
                ..BootOptions::default()
            };
            assert!(arguments(&options, AcceleratorKind::Tcg, &uefi(), &files()).is_err());
        }
    }
}
