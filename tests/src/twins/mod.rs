//! Twins of vendors' images, which cannot be had here: their partition tables, types,
//! labels, features of file systems, boot chains, release files and package databases around
//! the userland of Debian, which boots. Made once and kept between runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nodekiln::profile::model::Architecture;
use nodekiln::progress::Silent;
use nodekiln::store::Digest;
use sha2::{Digest as _, Sha256};

use crate::debian_base;
use crate::program::dying_with_us;
use crate::small_base::text;

/// How it is made, beside what stands in [`Twin`].
const SCRIPT: &str = include_str!("make.sh");

/// A vendor's image, as far as it matters.
#[derive(Debug)]
pub struct Twin {
    /// Short name.
    pub name: &'static str,
    /// os-release.
    pub os_release: &'static str,
    /// The partitions.
    pub table: &'static [Partition],
    /// Arguments of the kernel beside root and console.
    pub arguments: &'static str,
    /// Folder of GRUB's configuration in `/boot`.
    pub grub: &'static str,
    /// The database of packages.
    pub packages: Packages,
    /// `SELINUX=` of `/etc/selinux/config`; none without that file.
    pub selinux: Option<&'static str>,
}

/// A partition, in sectors of 512 bytes.
#[derive(Debug)]
pub struct Partition {
    /// Its number.
    pub number: u32,
    /// Its type, as sgdisk takes it.
    pub type_code: &'static str,
    /// First sector.
    pub first: u64,
    /// Last one.
    pub last: u64,
    /// What it is for.
    pub role: Role,
}

/// What a partition is for.
#[derive(Debug, PartialEq, Eq)]
pub enum Role {
    /// GRUB's core, for machines with a BIOS.
    BiosBoot,
    /// The EFI system partition, with this label.
    Esp(&'static str),
    /// A separate `/boot`, made by this command.
    Boot(&'static str),
    /// The root, made by this command.
    Root(&'static str),
}

/// A database of packages.
#[derive(Debug, PartialEq, Eq)]
pub enum Packages {
    /// Debian's own.
    Dpkg,
    /// rpm's, in SQLite; lines of name, version and release.
    Sqlite(&'static str),
    /// rpm's, in Berkeley DB.
    Berkeley(&'static str),
}

/// Size of the disks.
const SIZE: u64 = 4 << 30;
/// Last sector that a partition may have: the backup table is behind it.
const LAST: u64 = SIZE / 512 - 34;
const EXTENDED_BOOT: &str = "bc13c2ff-59e6-4262-a352-b275fd6f7172";
/// The root partition type for x86-64 of the Discoverable Partitions Specification.
const ROOT_X86_64: &str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
const LINUX: &str = "8300";

const fn partition(
    number: u32,
    type_code: &'static str,
    (first, last): (u64, u64),
    role: Role,
) -> Partition {
    Partition {
        number,
        type_code,
        first,
        last,
        role,
    }
}

/// All of them. Tables: those of the vendors' images, as their builders publish them.
pub static TWINS: [Twin; 6] = [
    Twin {
        name: "ubuntu-20.04",
        os_release: "NAME=\"Ubuntu\"\nVERSION=\"20.04.6 LTS (Focal Fossa)\"\nID=ubuntu\nID_LIKE=debian\n\
                     PRETTY_NAME=\"Ubuntu 20.04.6 LTS\"\nVERSION_ID=\"20.04\"\nVERSION_CODENAME=focal\n\
                     UBUNTU_CODENAME=focal\n",
        table: &[
            partition(14, "ef02", (2048, 10_239), Role::BiosBoot),
            partition(15, "ef00", (10_240, 227_327), Role::Esp("UEFI")),
            partition(
                1,
                LINUX,
                (227_328, LAST),
                Role::Root(
                    "mke2fs -q -t ext4 -L cloudimg-rootfs -i 8192 -m 0 -O metadata_csum,64bit,^orphan_file",
                ),
            ),
        ],
        // What systemd 245 does by itself.
        arguments: "systemd.unified_cgroup_hierarchy=0",
        grub: "grub",
        packages: Packages::Dpkg,
        selinux: None,
    },
    Twin {
        name: "ubuntu-22.04",
        os_release: "PRETTY_NAME=\"Ubuntu 22.04.5 LTS\"\nNAME=\"Ubuntu\"\nVERSION_ID=\"22.04\"\n\
                     VERSION=\"22.04.5 LTS (Jammy Jellyfish)\"\nVERSION_CODENAME=jammy\nID=ubuntu\nID_LIKE=debian\n",
        table: &[
            partition(14, "ef02", (2048, 10_239), Role::BiosBoot),
            partition(15, "ef00", (10_240, 227_327), Role::Esp("UEFI")),
            partition(
                1,
                LINUX,
                (227_328, LAST),
                Role::Root(
                    "mke2fs -q -t ext4 -L cloudimg-rootfs -O metadata_csum,64bit,^orphan_file",
                ),
            ),
        ],
        arguments: "",
        grub: "grub",
        packages: Packages::Dpkg,
        selinux: None,
    },
    Twin {
        name: "ubuntu-24.04",
        os_release: "PRETTY_NAME=\"Ubuntu 24.04.3 LTS\"\nNAME=\"Ubuntu\"\nVERSION_ID=\"24.04\"\n\
                     VERSION=\"24.04.3 LTS (Noble Numbat)\"\nVERSION_CODENAME=noble\nID=ubuntu\nID_LIKE=debian\n",
        table: &[
            partition(14, "ef02", (2048, 10_239), Role::BiosBoot),
            partition(15, "ef00", (10_240, 227_327), Role::Esp("UEFI")),
            partition(
                16,
                EXTENDED_BOOT,
                (227_328, 2_097_151),
                Role::Boot("mke2fs -q -t ext4 -L BOOT -O metadata_csum,64bit"),
            ),
            partition(
                1,
                LINUX,
                (2_099_200, LAST),
                Role::Root(
                    "mke2fs -q -t ext4 -L cloudimg-rootfs -O metadata_csum,metadata_csum_seed,64bit,orphan_file",
                ),
            ),
        ],
        arguments: "",
        grub: "grub",
        packages: Packages::Dpkg,
        selinux: None,
    },
    Twin {
        name: "al2023",
        os_release: "NAME=\"Amazon Linux\"\nVERSION=\"2023\"\nID=\"amzn\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"2023\"\n\
                     PLATFORM_ID=\"platform:al2023\"\nPRETTY_NAME=\"Amazon Linux 2023.9.20251105\"\n",
        table: &[
            partition(128, "ef00", (2048, 22_527), Role::Esp("EFI")),
            partition(127, "ef02", (22_528, 24_575), Role::BiosBoot),
            partition(
                1,
                ROOT_X86_64,
                (24_576, LAST),
                Role::Root("mkfs.xfs -q -L / -m bigtime=1,reflink=1,inobtcount=1"),
            ),
        ],
        arguments: "",
        grub: "grub2",
        packages: Packages::Sqlite(
            "containerd 2.1.4 1.amzn2023.0.1\nrunc 1.3.1 1.amzn2023.0.1\n\
             iptables-nft 1.8.8 3.amzn2023.0.2\nkernel6.1 6.1.155 176.282.amzn2023",
        ),
        selinux: Some("permissive"),
    },
    Twin {
        name: "rhel-8",
        os_release: "NAME=\"Red Hat Enterprise Linux\"\nVERSION=\"8.10 (Ootpa)\"\nID=\"rhel\"\nID_LIKE=\"fedora\"\n\
                     VERSION_ID=\"8.10\"\nPLATFORM_ID=\"platform:el8\"\n\
                     PRETTY_NAME=\"Red Hat Enterprise Linux 8.10 (Ootpa)\"\n",
        table: &[
            partition(1, "ef02", (2048, 4095), Role::BiosBoot),
            partition(2, "ef00", (4096, 208_895), Role::Esp("EFI")),
            partition(
                3,
                LINUX,
                (208_896, LAST),
                Role::Root("mkfs.xfs -q -L root -m bigtime=0,inobtcount=0,reflink=1,crc=1"),
            ),
        ],
        // What systemd 239 does by itself.
        arguments: "systemd.unified_cgroup_hierarchy=0",
        grub: "grub2",
        packages: Packages::Berkeley(
            "containerd.io 1.6.32 3.1.el8\niptables 1.8.5 11.el8\nkernel-core 4.18.0 553.el8",
        ),
        selinux: Some("enforcing"),
    },
    Twin {
        name: "rhel-9",
        os_release: "NAME=\"Red Hat Enterprise Linux\"\nVERSION=\"9.6 (Plow)\"\nID=\"rhel\"\nID_LIKE=\"fedora\"\n\
                     VERSION_ID=\"9.6\"\nPLATFORM_ID=\"platform:el9\"\n\
                     PRETTY_NAME=\"Red Hat Enterprise Linux 9.6 (Plow)\"\n",
        table: &[
            partition(1, "ef02", (2048, 4095), Role::BiosBoot),
            partition(2, "ef00", (4096, 413_695), Role::Esp("EFI")),
            partition(
                3,
                EXTENDED_BOOT,
                (413_696, 1_642_495),
                Role::Boot("mkfs.xfs -q -L boot -m bigtime=1,inobtcount=1,reflink=1"),
            ),
            partition(
                4,
                ROOT_X86_64,
                (1_642_496, LAST),
                Role::Root("mkfs.xfs -q -L root -m bigtime=1,inobtcount=1,reflink=1"),
            ),
        ],
        arguments: "",
        grub: "grub2",
        packages: Packages::Sqlite(
            "containerd.io 1.7.27 3.1.el9\niptables-nft 1.8.10 11.el9\nkernel-core 5.14.0 570.el9",
        ),
        selinux: Some("enforcing"),
    },
];

/// The policy of those with SELinux, in small: a system that enforces one is not baked
/// without it.
const FILE_CONTEXTS: &str = "\
/.*\tsystem_u:object_r:default_t:s0
/boot(/.*)?\tsystem_u:object_r:boot_t:s0
/etc(/.*)?\tsystem_u:object_r:etc_t:s0
/usr(/.*)?\tsystem_u:object_r:usr_t:s0
/usr/s?bin(/.*)?\tsystem_u:object_r:bin_t:s0
/usr/libexec(/.*)?\tsystem_u:object_r:bin_t:s0
/var(/.*)?\tsystem_u:object_r:var_t:s0
";

impl Twin {
    /// The twin of this name.
    ///
    /// # Panics
    /// When there is none.
    pub fn named(name: &str) -> &'static Self {
        let found = TWINS.iter().find(|twin| twin.name == name);
        found.unwrap_or_else(|| panic!("no twin is named {name}"))
    }

    /// Whether its root is XFS.
    pub fn is_xfs(&self) -> bool {
        let is_root = |part: &Partition| matches!(part.role, Role::Root(make) if make.starts_with("mkfs.xfs"));
        self.table.iter().any(is_root)
    }

    /// The partition that is `pick`ed by its role.
    ///
    /// # Panics
    /// When the table has none.
    pub fn partition(&self, pick: impl Fn(&Role) -> bool) -> &'static Partition {
        let found = self.table.iter().find(|part| pick(&part.role));
        found.unwrap_or_else(|| panic!("{} lacks a partition", self.name))
    }

    /// The path of the image, a qcow2 file, made at most once for one state of the code
    /// that makes it. It must not be changed.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn path(&self) -> PathBuf {
        let base = debian_base::path(Architecture::X86_64);
        let store = debian_base::store();
        let key = Sha256::new()
            .chain_update(format!("{self:?}"))
            .chain_update(SCRIPT)
            .chain_update(text(&base));
        let key = Digest::from_bytes(key.finalize().into()).short();
        let name = format!("twin-{}-{key}", self.name);
        let _one = store
            .exclusive(&name, &Silent)
            .expect("the cache can be written");
        let path = store.folder().join(format!("{name}.qcow2"));
        if !path.is_file() {
            self.make(&base, &path, store.folder());
        }
        path
    }

    fn make(&self, base: &Path, path: &Path, folder: &Path) {
        let work = tempfile::Builder::new()
            .prefix("twin-")
            .tempdir_in(folder)
            .expect("the cache can be written");
        self.write_overlay(&work.path().join("overlay"));
        let made = work.path().join("twin.qcow2");
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "bash", "-c", SCRIPT])
            .arg("make.sh")
            .args([base, made.as_path(), work.path()])
            .envs(self.variables());
        let output = dying_with_us(&command)
            .output()
            .expect("unshare and setpriv are needed");
        assert!(
            output.status.success(),
            "making the twin {}: {}",
            self.name,
            String::from_utf8_lossy(&output.stderr)
        );
        fs::rename(&made, path).expect("the cache can be written");
    }

    fn variables(&self) -> Vec<(String, String)> {
        let mut variables = Vec::new();
        let mut set = |name: &str, value: String| variables.push((name.to_owned(), value));
        let mut table = String::new();
        let mut in_boot = 0;
        set("BOOT_MKFS", String::new());
        for part in self.table {
            table += &format!(
                "--new={0}:{1}:{2} --typecode={0}:{3} ",
                part.number, part.first, part.last, part.type_code
            );
            let name = match part.role {
                Role::BiosBoot => "BIOS",
                Role::Esp(label) => {
                    set("ESP_LABEL", label.to_owned());
                    "ESP"
                }
                Role::Boot(make) => {
                    set("BOOT_MKFS", make.to_owned());
                    in_boot = part.number;
                    "BOOT"
                }
                Role::Root(make) => {
                    set("ROOT_MKFS", make.to_owned());
                    if in_boot == 0 {
                        in_boot = part.number;
                    }
                    "ROOT"
                }
            };
            set(&format!("{name}_FIRST"), part.first.to_string());
            set(&format!("{name}_LAST"), part.last.to_string());
        }
        set("TABLE", table);
        set("GRUB_PARTITION", in_boot.to_string());
        set("GRUB", self.grub.to_owned());
        set("ARGUMENTS", self.arguments.to_owned());
        set("DISK_SIZE", SIZE.to_string());
        set(
            "DISK_GUID",
            "6a5b0f1e-9a63-4c0d-8f0c-0d6a5e2b7c11".to_owned(),
        );
        let pretty = self
            .os_release
            .lines()
            .find_map(|line| line.strip_prefix("PRETTY_NAME="));
        let pretty = pretty.expect("a name").trim_matches('"');
        set("PRETTY_NAME", pretty.to_owned());
        let (kind, packages) = match self.packages {
            Packages::Dpkg => ("", ""),
            Packages::Sqlite(packages) => ("sqlite", packages),
            Packages::Berkeley(packages) => ("berkeley", packages),
        };
        set("RPM", kind.to_owned());
        set("PACKAGES", packages.to_owned());
        variables
    }

    fn write_overlay(&self, folder: &Path) {
        let mut files = vec![("usr/lib/os-release", self.os_release.to_owned())];
        if let Some(mode) = self.selinux {
            let text = format!("SELINUX={mode}\nSELINUXTYPE=targeted\n");
            files.push(("etc/selinux/config", text));
            files.push((
                "etc/selinux/targeted/contexts/files/file_contexts",
                FILE_CONTEXTS.to_owned(),
            ));
        }
        for (path, content) in files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("creates");
            fs::write(path, content).expect("writes");
        }
    }
}
