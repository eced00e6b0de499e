//! The files that make a package tree a cloud image: pure functions of the
//! identifiers.

use crate::error::Result;
use crate::image_path::ImagePath;

/// Label of the root file system, as on Ubuntu's cloud images.
pub(super) const ROOT_LABEL: &str = "cloudimg-rootfs";
/// Label of the EFI system partition, as on Ubuntu's cloud images.
pub(super) const ESP_LABEL: &str = "UEFI";

/// Something that is written over what the packages brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Generated {
    /// A folder, mode 0755.
    Directory,
    /// A file, mode 0644.
    File(String),
    /// A symbolic link.
    Link(&'static str),
}

/// Everything that is generated in the root file system, parents before their
/// children. `serial` is the serial console, where the kernel and GRUB have to be told.
///
/// # Errors
/// None for well-formed constants; the paths are checked all the same.
pub(super) fn root_files(
    root_uuid: &str,
    kernel: &str,
    distribution: &str,
    serial: Option<&str>,
) -> Result<Vec<(ImagePath, Generated)>> {
    let unit = |folder: &str, name: &str| format!("/etc/systemd/system/{folder}.wants/{name}");
    let file = |text: &str| Generated::File(text.to_owned());
    let mut files = vec![
        ("/dev".to_owned(), Generated::Directory),
        ("/boot/efi".to_owned(), Generated::Directory),
        (
            "/boot/grub/grub.cfg".to_owned(),
            Generated::File(grub_config(root_uuid, kernel, distribution, serial)),
        ),
        (
            "/etc/default/grub".to_owned(),
            Generated::File(grub_defaults(serial)),
        ),
        ("/etc/fstab".to_owned(), Generated::File(fstab())),
        ("/etc/hostname".to_owned(), file("localhost\n")),
        ("/etc/hosts".to_owned(), file(HOSTS)),
        // Empty, not absent: systemd makes a new one at each clone's first boot.
        ("/etc/machine-id".to_owned(), file("")),
        // cloud-init asks for en_US by default, which no package brings.
        (
            "/etc/cloud/cloud.cfg.d/10-locale.cfg".to_owned(),
            file("locale: C.UTF-8\n"),
        ),
        // The modern kinds alone, as on Amazon Linux 2023: making an RSA and a DSA
        // key costs a small machine many seconds of its first boot, before the
        // network counts as online.
        (
            "/etc/cloud/cloud.cfg.d/10-host-keys.cfg".to_owned(),
            file("ssh_genkeytypes: [ed25519, ecdsa]\n"),
        ),
        // What a platform's own configuration does not name gets an address by
        // DHCP; files of cloud-init and netplan sort before this one.
        (
            "/etc/systemd/network/90-dhcp.network".to_owned(),
            file(DHCP),
        ),
        (
            "/etc/systemd/system/dbus-org.freedesktop.network1.service".to_owned(),
            Generated::Link("/lib/systemd/system/systemd-networkd.service"),
        ),
    ];
    // As `systemctl enable systemd-networkd` would.
    files.extend([
        (
            unit("multi-user.target", "systemd-networkd.service"),
            Generated::Link("/lib/systemd/system/systemd-networkd.service"),
        ),
        (
            unit("sockets.target", "systemd-networkd.socket"),
            Generated::Link("/lib/systemd/system/systemd-networkd.socket"),
        ),
        (
            unit("sysinit.target", "systemd-network-generator.service"),
            Generated::Link("/lib/systemd/system/systemd-network-generator.service"),
        ),
        (
            unit(
                "network-online.target",
                "systemd-networkd-wait-online.service",
            ),
            Generated::Link("/lib/systemd/system/systemd-networkd-wait-online.service"),
        ),
    ]);
    files
        .into_iter()
        .map(|(path, content)| Ok((ImagePath::new(path)?, content)))
        .collect()
}

/// The configuration that GRUB finds on the EFI system partition: it goes on to
/// the one of the root file system.
pub(super) fn grub_stub(root_uuid: &str) -> String {
    format!(
        "search.fs_uuid {root_uuid} root\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"
    )
}

/// In the shape of `grub-mkconfig`, so that programs which edit its output can
/// edit this.
fn grub_config(root_uuid: &str, kernel: &str, distribution: &str, serial: Option<&str>) -> String {
    let entry = |title: &str, id: &str, arguments: &str| {
        format!(
            "menuentry '{title}' --class debian --class gnu-linux --class gnu --class os $menuentry_id_option '{id}' {{\n\
             \tinsmod gzio\n\
             \tinsmod part_gpt\n\
             \tinsmod ext2\n\
             \tsearch --no-floppy --fs-uuid --set=root {root_uuid}\n\
             \techo\t'Loading Linux {kernel} ...'\n\
             \tlinux\t/boot/vmlinuz-{kernel} root=UUID={root_uuid} ro{arguments}\n\
             \techo\t'Loading initial ramdisk ...'\n\
             \tinitrd\t/boot/initrd.img-{kernel}\n\
             }}\n"
        )
    };
    let arguments = consoles(serial);
    let terminal = if serial.is_some() {
        "serial --speed=115200\nterminal_input console serial\nterminal_output console serial\n"
    } else {
        ""
    };
    format!(
        "set default=\"0\"\n\
         if [ x\"${{feature_menuentry_id}}\" = xy ]; then\n\
         \x20 menuentry_id_option=\"--id\"\n\
         else\n\
         \x20 menuentry_id_option=\"\"\n\
         fi\n\
         export menuentry_id_option\n\
         {}\
         set timeout_style=menu\n\
         set timeout=0\n\
         ### BEGIN /etc/grub.d/10_linux ###\n\
         {}{}### END /etc/grub.d/10_linux ###\n",
        terminal,
        entry(
            distribution,
            &format!("gnulinux-simple-{root_uuid}"),
            &arguments
        ),
        entry(
            &format!("{distribution}, with Linux {kernel} (recovery mode)"),
            &format!("gnulinux-{kernel}-recovery-{root_uuid}"),
            &format!(" single{arguments}"),
        ),
    )
}

/// Kernel arguments, a space before each. The last console is the one that systemd
/// writes to.
fn consoles(serial: Option<&str>) -> String {
    serial.map_or_else(String::new, |name| format!(" console=tty1 console={name}"))
}

fn grub_defaults(serial: Option<&str>) -> String {
    let terminal = if serial.is_some() {
        "GRUB_TERMINAL=\"console serial\"\nGRUB_SERIAL_COMMAND=\"serial --speed=115200\"\n"
    } else {
        "GRUB_TERMINAL=\"console\"\n"
    };
    format!(
        "GRUB_DEFAULT=0\n\
         GRUB_TIMEOUT=0\n\
         GRUB_DISTRIBUTOR=Debian\n\
         GRUB_CMDLINE_LINUX_DEFAULT=\"\"\n\
         GRUB_CMDLINE_LINUX=\"{}\"\n\
         {terminal}\
         GRUB_DISABLE_OS_PROBER=true\n",
        consoles(serial).trim_start()
    )
}

fn fstab() -> String {
    format!(
        "LABEL={ROOT_LABEL}\t/\text4\tdiscard,errors=remount-ro\t0 1\n\
         LABEL={ESP_LABEL}\t/boot/efi\tvfat\tumask=0077\t0 1\n"
    )
}

const HOSTS: &str = "\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";

const DHCP: &str = "\
[Match]
Type=ether
Name=en* eth*

[Network]
DHCP=yes
";

/// Whether a file of the package tree is a trace of its making: an identity of
/// one machine, a log, a cache, or what differs between two runs.
pub(super) fn is_leftover(path: &str) -> bool {
    const FILES: [&str; 17] = [
        "/etc/.pwd.lock",
        "/etc/apt/apt.conf.d/99mmdebstrap",
        "/etc/dpkg/dpkg.cfg.d/99mmdebstrap",
        "/etc/group-",
        "/etc/gshadow-",
        "/etc/machine-id",
        "/etc/passwd-",
        "/etc/resolv.conf.dpkg-bak",
        "/etc/shadow-",
        "/etc/subgid-",
        "/etc/subuid-",
        "/var/cache/ldconfig/aux-cache",
        "/var/lib/dbus/machine-id",
        "/var/lib/systemd/credential.secret",
        "/var/lib/systemd/random-seed",
        "/var/lib/apt/extended_states.lock",
        "/var/lib/dpkg/triggers/Lock",
    ];
    const FOLDERS: [&str; 4] = ["/var/log/", "/var/lib/apt/lists/", "/tmp/", "/run/"];
    FILES.contains(&path)
        || FOLDERS.iter().any(|folder| path.starts_with(folder))
        || path.starts_with("/etc/ssh/ssh_host_")
        || path == "/var/cache/apt/pkgcache.bin"
        || path == "/var/cache/apt/srcpkgcache.bin"
        || (path.starts_with("/var/cache/debconf/") && path.ends_with("-old"))
        || (path.starts_with("/var/lib/dpkg/") && path.ends_with("-old"))
        || path.starts_with("/dev/")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is generated at `path`.
    fn text_of(path: &str, serial: Option<&str>) -> String {
        let files = root_files("uuid", "6.1.0-1", "Debian", serial).expect("constants");
        let found = files.into_iter().find(|(at, _)| at.as_str() == Some(path));
        let Some((_, Generated::File(text))) = found else {
            unreachable!("{path} is a file");
        };
        text
    }

    #[test]
    fn firmware_that_names_the_console_is_not_contradicted() {
        let config = text_of("/boot/grub/grub.cfg", None);
        assert!(config.contains("\tlinux\t/boot/vmlinuz-6.1.0-1 root=UUID=uuid ro\n"));
        assert!(config.contains("root=UUID=uuid ro single\n"));
        let defaults = text_of("/etc/default/grub", None);
        assert!(defaults.contains("\nGRUB_CMDLINE_LINUX=\"\"\nGRUB_TERMINAL=\"console\"\n"));
        for text in [config, defaults] {
            assert!(
                !text.contains("serial") && !text.contains("console="),
                "{text}"
            );
        }
    }

    #[test]
    fn points_grub_at_the_root_and_its_kernel() {
        let config = text_of("/boot/grub/grub.cfg", Some("ttyS0"));
        assert!(config.contains(
            "\tlinux\t/boot/vmlinuz-6.1.0-1 root=UUID=uuid ro console=tty1 console=ttyS0\n"
        ));
        assert!(config.contains("\nserial --speed=115200\nterminal_input console serial\n"));
        let single = "root=UUID=uuid ro single console=tty1 console=ttyS0\n";
        assert!(config.contains(single));
        assert!(config.contains("\tinitrd\t/boot/initrd.img-6.1.0-1\n"));
        assert!(config.contains("set timeout=0\n"));
        assert!(grub_stub("uuid").starts_with("search.fs_uuid uuid root\n"));
    }

    #[test]
    fn knows_what_belongs_to_one_machine() {
        for path in [
            "/etc/ssh/ssh_host_ed25519_key",
            "/etc/machine-id",
            "/var/log/dpkg.log",
            "/dev/null",
            "/var/cache/apt/pkgcache.bin",
        ] {
            assert!(is_leftover(path), "{path}");
        }
        for path in [
            "/etc/ssh/sshd_config",
            "/var/lib/dpkg/status",
            "/etc/passwd",
        ] {
            assert!(!is_leftover(path), "{path}");
        }
    }
}
