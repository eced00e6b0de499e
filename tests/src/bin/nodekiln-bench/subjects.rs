//! The ways of doing the same work that are compared.

use std::fs;
use std::path::{Path, PathBuf};

use nodekiln::volume::agent::installed;
use nodekiln_tests::program::run;
use nodekiln_tests::volumes::{blank, must};

use crate::measure::Subject;
use crate::settings::Settings;

/// Mounts with the kernel, unpacks, copies, unmounts, syncs.
const LOOP_MOUNT: &str = "set -e; mount -o loop,noatime \"$1\" \"$2\"; tar -C \"$2\" -xf \"$3\"; umount \"$2\"; sync \"$1\"";
/// Copies base and payload as plain files and syncs them.
const COPY: &str = "set -e; cp --sparse=always \"$1\" \"$3/base.raw\"; cp -r \"$2\" \"$3/payload\"; sync -f \"$3\"";
/// Changes a copy of the base with libguestfs in a root of its own, then writes
/// it as qcow2. A mount namespace takes all mounts away with it.
const VIRT_CUSTOMIZE: &str = r#"set -e
root=$1 base=$2 payload=$3 work=$4
cp --sparse=always "$base" "$work/image.raw"
mount --make-rprivate /
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mkdir -p "$root/srv/work" "$root/srv/payload"
mount --bind "$work" "$root/srv/work"
mount --bind "$payload" "$root/srv/payload"
chroot "$root" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin TMPDIR=/var/tmp \
  LIBGUESTFS_BACKEND=direct LIBGUESTFS_BACKEND_SETTINGS=force_tcg \
  virt-customize --quiet --no-network -a /srv/work/image.raw --copy-in /srv/payload/opt:/
qemu-img convert -O qcow2 -W "$work/image.raw" "$work/image.qcow2"
"#;

/// The folder and files that all experiments share.
#[derive(Debug)]
pub struct Bench<'a> {
    /// What was given.
    pub settings: &'a Settings,
    /// The payload as a tree.
    pub payload: PathBuf,
}

fn text(path: &Path) -> String {
    path.to_str()
        .expect("paths of the benchmark are UTF-8")
        .to_owned()
}

fn shell(script: &str, arguments: &[&Path]) -> Vec<String> {
    let head = ["sh", "-c", script, "sh"].map(ToOwned::to_owned);
    let rest = arguments.iter().map(|path| text(path));
    head.into_iter().chain(rest).collect()
}

fn empty(folder: &Path) {
    if folder.exists() {
        fs::remove_dir_all(folder).expect("remove what the last run made");
    }
    fs::create_dir_all(folder).expect("make a folder for the run");
}

impl<'a> Bench<'a> {
    fn work(&self, name: &str) -> PathBuf {
        self.settings.work.join(name)
    }

    /// In process and through a loop mount, into an empty ext4 of 4 GiB.
    pub fn ext4(&self) -> Vec<Subject<'a>> {
        self.payload_into(
            &[("in process", vec![])],
            &["mkfs.ext4", "-q", "-F"],
            &["e2fsck", "-fn"],
        )
    }

    /// By guest kernels, two as processes and one in a machine, and through a loop mount, into an empty XFS of 4 GiB.
    pub fn xfs(&self) -> Vec<Subject<'a>> {
        let named = |variable: &str, kernel: &Path| {
            let value = format!("{variable}={}", text(kernel));
            vec!["env".to_owned(), value]
        };
        let by = |kernel: &Path| named("NODEKILN_UML_KERNEL", kernel);
        let machine = named("NODEKILN_VM_KERNEL", &self.settings.vm_kernel);
        let packaged = installed("linux.uml").expect("user-mode-linux is installed");
        self.payload_into(
            &[
                ("guest kernel, our build", by(&self.settings.guest_kernel)),
                ("guest kernel, packaged", by(&packaged)),
                ("machine in QEMU", machine),
            ],
            &["mkfs.xfs", "-q"],
            &["xfs_repair", "-n", "-f"],
        )
    }

    /// By this program, in ways that differ in what its command begins with, and through
    /// a loop mount.
    fn payload_into(
        &self,
        ways: &[(&'static str, Vec<String>)],
        make: &[&str],
        check: &'static [&'static str],
    ) -> Vec<Subject<'a>> {
        let folder = self.work(make[0]);
        empty(&folder);
        let archive = folder.join("payload.tar");
        let payload = text(&self.payload);
        must("tar", &["-C", &payload, "-c", ".", "-f"], &archive);
        let base = blank(&folder, "base", 4 << 30);
        must(make[0], &make[1..], &base);
        let (image, point) = (folder.join("image"), folder.join("mounted"));
        fs::create_dir_all(&point).expect("make the mount point");
        let itself = std::env::current_exe().expect("the program knows its path");
        let ours = [&itself, Path::new("bake"), &image, &self.payload].map(text);
        let theirs = shell(LOOP_MOUNT, &[&image, &point, &archive]);
        let fresh = move || {
            let (base, image) = (base.clone(), image.clone());
            move || {
                // What the last run made must be sound, too.
                if image.exists() {
                    must(check[0], &check[1..], &image);
                }
                must("cp", &["--sparse=always", &text(&base)], &image);
            }
        };
        let by_us = ways.iter().map(|(name, begin)| Subject {
            name,
            prepare: Box::new(fresh()),
            command: begin.iter().chain(&ours).cloned().collect(),
        });
        let by_mount = Subject {
            name: "loop mount and tar",
            prepare: Box::new(fresh()),
            command: theirs,
        };
        by_us.chain([by_mount]).collect()
    }

    /// A profile that bakes the payload into `base`, locked; gives the build of
    /// it as a subject.
    pub fn build(&self, name: &'static str, base: &Path, outputs: &str) -> Subject<'a> {
        // The name becomes part of a path in YAML, where commas mean something.
        let letters = name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
        let folder = self.work(&format!("build-{letters}"));
        empty(&folder);
        let profile = folder.join("profile.yaml");
        let written = profile_text(base, &self.payload, &folder, outputs);
        fs::write(&profile, written).expect("write the profile");
        let (store, output) = (self.work("store"), folder.join("out"));
        let nodekiln = text(&self.settings.nodekiln);
        let (profile, store) = (text(&profile), text(&store));
        run(
            &nodekiln,
            &["lock", &profile, "--store", &store, "--progress", "none"],
        );
        let command = [
            &nodekiln,
            "build",
            &profile,
            "--offline",
            "--store",
            &store,
            "--output",
            &text(&output),
            "--progress",
            "none",
        ];
        Subject {
            name,
            command: command.map(ToOwned::to_owned).to_vec(),
            prepare: Box::new(move || empty(&output)),
        }
    }

    /// A sparse copy of the base, a copy of the payload, and a sync of both.
    pub fn copy(&self) -> Subject<'a> {
        let folder = self.work("copy");
        Subject {
            name: "plain copy and sync",
            command: shell(COPY, &[&self.settings.base, &self.payload, &folder]),
            prepare: Box::new(move || empty(&folder)),
        }
    }

    /// What users would take today.
    pub fn virt_customize(&self, root: &Path) -> Subject<'a> {
        let folder = self.work("virt-customize");
        let mut command = vec!["unshare".to_owned(), "-m".to_owned()];
        command.extend(shell(
            VIRT_CUSTOMIZE,
            &[root, &self.settings.base, &self.payload, &folder],
        ));
        Subject {
            name: "virt-customize and qemu-img",
            command,
            prepare: Box::new(move || empty(&folder)),
        }
    }

    /// The base as a compressed qcow2, with a disk of `gib` GiB; a larger one
    /// holds the same tree in a root file system that fills it.
    pub fn sized_base(&self, gib: u64) -> PathBuf {
        let raw = self.work(&format!("base-{gib}.raw"));
        let image = self.work(&format!("base-{gib}.qcow2"));
        must("cp", &["--sparse=always", &text(&self.settings.base)], &raw);
        let have = fs::metadata(&raw).expect("the copy is there").len();
        if have < gib << 30 {
            let script = r#"set -e
truncate -s "$2G" "$1"; sgdisk -e "$1"; echo ',+' | sfdisk --no-reread -q -N 1 "$1"
start=$(sfdisk -d "$1" | sed -n '/^[^ ]*raw1 :/s/.*start= *\([0-9]*\),.*/\1/p')
size=$(sfdisk -d "$1" | sed -n '/^[^ ]*raw1 :/s/.*size= *\([0-9]*\),.*/\1/p')
device=$(losetup -f --show -o $((start * 512)) --sizelimit $((size * 512)) "$1")
trap 'losetup -d "$device"' EXIT
e2fsck -fy "$device" || [ $? = 1 ]
resize2fs "$device""#;
            run("bash", &["-c", script, "sh", &text(&raw), &gib.to_string()]);
        }
        compress(&raw, &image);
        image
    }

    /// The base as a compressed qcow2 with a policy of SELinux in `mode`.
    pub fn base_with_policy(&self, mode: &str) -> PathBuf {
        let folder = self.work(&format!("policy-{mode}"));
        empty(&folder);
        let (raw, image, point) = (
            folder.join("base.raw"),
            folder.join("base.qcow2"),
            folder.join("mounted"),
        );
        must("cp", &["--sparse=always", &text(&self.settings.base)], &raw);
        fs::create_dir_all(&point).expect("make the mount point");
        let script = r#"set -e
start=$(sfdisk -d "$1" | sed -n '/^[^ ]*raw1 :/s/.*start= *\([0-9]*\),.*/\1/p')
mount -o loop,offset=$((start * 512)) "$1" "$2"
trap 'umount "$2"' EXIT
mkdir -p "$2/etc/selinux"
cp -a "$3/policy/etc/selinux/default" "$2/etc/selinux/"
printf 'SELINUX=%s\nSELINUXTYPE=default\n' "$4" >"$2/etc/selinux/config""#;
        let policy = text(&self.settings.policy);
        run(
            "bash",
            &[
                "-c",
                script,
                "sh",
                &text(&raw),
                &text(&point),
                &policy,
                mode,
            ],
        );
        compress(&raw, &image);
        image
    }
}

/// Writes `raw` as a compressed qcow2, and removes it.
fn compress(raw: &Path, image: &Path) {
    let options = [
        "convert",
        "-c",
        "-W",
        "-O",
        "qcow2",
        "-o",
        "compression_type=zstd",
    ];
    let (from, to) = (text(raw), text(image));
    run("qemu-img", &[&options[..], &[&from, &to]].concat());
    fs::remove_file(raw).expect("remove the raw base");
}

fn profile_text(base: &Path, payload: &Path, folder: &Path, outputs: &str) -> String {
    // The smallest program that can stand for a kubelet: what is measured is the
    // payload.
    let kubelet = folder.join("kubelet");
    fs::write(&kubelet, "#!/bin/sh\nexec sleep infinity\n").expect("write the kubelet");
    format!(
        "apiVersion: nodekiln.dev/v1alpha1
kind: ImageProfile
metadata:
  name: bench
spec:
  architecture: x86_64
  base:
    path: {}
  credentialProvider: iam-ra
  kubernetes:
    version: 1.34.4
    components:
      containerd: {{fromBase: true}}
      runc: {{fromBase: true}}
      kubelet: {{path: {}}}
      kubectl: {{omit: true}}
      cni-plugins: {{omit: true}}
      ecr-credential-provider: {{omit: true}}
      aws-iam-authenticator: {{omit: true}}
      aws-signing-helper: {{omit: true}}
  overlays: [common, linux, {}]
  outputs: {outputs}
",
        base.display(),
        kubelet.display(),
        payload.display()
    )
}
