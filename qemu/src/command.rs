//! The command line of QEMU, from plain values.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::accelerator::AcceleratorKind;
use crate::boot::{BootOptions, Network, SeedBus};
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
        let block = serde_json::json!({
            "node-name": "disk",
            "driver": "qcow2",
            // Nothing of the guest is kept, so nothing needs to reach the disk.
            "cache": { "no-flush": true },
            "file": { "driver": "file", "filename": text(disk)?, "cache": { "no-flush": true } },
        });
        line.pair("-blockdev", block.to_string())
            .pair("-device", format!("virtio-blk-pci,drive=disk{first}"));
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
    network(&mut line, options);
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

fn network(line: &mut Line, options: &BootOptions) {
    let Network::User {
        forwards,
        services,
        restricted,
    } = &options.network
    else {
        return;
    };
    let mut value = "user,id=net".to_owned();
    if *restricted {
        value += ",restrict=on";
    }
    for forward in forwards {
        let ports = format!("{}-:{}", forward.host_port, forward.guest_port);
        value.extend([",hostfwd=tcp:127.0.0.1:", &ports]);
    }
    for service in services {
        let command = service.command.replace(',', ",,");
        value += &format!(
            ",guestfwd=tcp:{}:{}-cmd:{command}",
            service.address, service.port
        );
    }
    // No option ROM: firmware must not go on to boot from the network.
    line.pair("-netdev", value)
        .pair("-device", "virtio-net-pci,netdev=net,romfile=");
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
    use crate::boot::{GuestService, HostForward};
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
                services: vec![GuestService {
                    address: [10, 0, 2, 100].into(),
                    port: 443,
                    command: "nc a,b 1".to_owned(),
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
