//! XFS for tests: file systems made by mkfs, the guest kernel that edits them, and the
//! programs of others that judge.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use nodekiln::disk::{Slice, Storage};
use nodekiln::volume::agent::{Kernel, Place, installed};
use nodekiln::volume::{Access, Attributes, Volume, open, open_for_agent};

use crate::program;
use crate::sequences::Operation;
use crate::small_base::{MIB, text};
use crate::volumes::{
    EPOCH, RawFile, at, blank, bytes, fill_old, must, plain, run, thin_old, through_kernel,
};

/// mkfs.xfs as the distributions call it.
pub const LAYOUTS: &[(&str, &[&str])] = &[
    ("rhel-8", &["-m", "bigtime=0,inobtcount=0"]),
    ("rhel-9", &[]),
    ("reverse mapping", &["-m", "rmapbt=1"]),
    (
        "al2023",
        &[
            "-s",
            "size=4096",
            "-d",
            "su=512k,sw=1,agcount=2",
            "-n",
            "size=16384",
            "-l",
            "su=16k,size=64m",
        ],
    ),
];

/// Size of the images in bytes: mkfs.xfs makes none below 300 MB.
pub const SIZE: u64 = 320 << 20;

/// The agent, built when it has to be.
pub fn agent() -> &'static Path {
    static AGENT: LazyLock<PathBuf> = LazyLock::new(|| {
        let printed = program::script("build-agent", "");
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(printed)
    });
    &AGENT
}

/// The agent for arm64, built when it has to be.
pub fn arm64_agent() -> PathBuf {
    let printed = program::script("build-agent", "arm64");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    workspace.join(printed)
}

/// The kernel that is installed, with the agent of this tree.
pub fn kernel() -> Kernel {
    let program = installed("linux.uml").expect("user-mode-linux must be installed");
    Kernel::new(
        program,
        std::fs::read(agent()).expect("the agent was built"),
    )
}

/// An XFS of `size` bytes.
pub fn make(folder: &Path, name: &str, options: &[&str], size: u64) -> PathBuf {
    let image = blank(folder, name, size);
    let mut arguments = vec![
        "-q",
        "-L",
        "root",
        "-m",
        "uuid=6a1f5b9e-0c5b-4c53-8f0e-0d5a8a1b2c3d",
    ];
    arguments.extend_from_slice(options);
    must("mkfs.xfs", &arguments, &image);
    image
}

/// Copies an image; zeros stay holes.
pub fn copy(from: &Path, to: &Path) {
    program::run(
        "cp",
        &[
            "--sparse=always",
            &from.to_string_lossy(),
            &to.to_string_lossy(),
        ],
    );
}

/// Opens the partition `range` of an image to be edited by a guest kernel.
pub fn through(
    kernel: Kernel,
    image: &Path,
    range: std::ops::Range<u64>,
    grow: bool,
) -> nodekiln::Result<Box<dyn Volume>> {
    let storage: Arc<dyn Storage> = Arc::new(RawFile::open(image).expect("image opened"));
    let storage: Arc<dyn Storage> = Arc::new(Slice::new(storage, range.clone()).expect("slice"));
    let place = Place {
        image: image.to_owned(),
        range,
        work: image.parent().expect("images lie in folders").to_owned(),
        kernel,
    };
    open_for_agent(&storage, place, EPOCH, grow)
}

/// Opens an image without partitions to be edited by the guest kernel.
pub fn through_agent(image: &Path) -> nodekiln::Result<Box<dyn Volume>> {
    let size = std::fs::metadata(image).expect("image is there").len();
    through(kernel(), image, 0..size, false)
}

/// Opens an image for reading in this process.
pub fn reading(image: &Path) -> nodekiln::Result<Box<dyn Volume>> {
    let storage = RawFile::open(image).expect("image opened");
    open(Arc::new(storage), Access::Read, EPOCH)
}

/// Gives a base what images have: a large folder of which a third was removed, a file in
/// many pieces, devices, access control lists, holes, a folder that hands its group on.
pub fn populate(image: &Path) {
    fill(image);
    by_hand(image, DRESS);
}

/// What the mount engine writes of [`populate`].
pub fn fill(image: &Path) {
    let mut volume = through_kernel(image, Access::Write);
    fill_old(volume.as_mut());
    volume
        .create_directory(&at("/many"), &plain(0o755))
        .expect("folder");
    for number in 0..2000u64 {
        let path = at(&format!("/many/a-name-of-some-length-{number:05}"));
        volume
            .write_file(&path, 0, &mut &b""[..], &plain(0o600))
            .expect("file");
    }
    thin_old(volume.as_mut());
    // Two files that grow in turn lie in each other's way.
    for name in ["/old/first", "/old/second"] {
        volume
            .write_file(&at(name), 0, &mut &b""[..], &plain(0o644))
            .expect("file");
    }
    for piece in 0..24 {
        for name in ["/old/first", "/old/second"] {
            volume
                .append_file(&at(name), &bytes(piece, 70_000))
                .expect("appended");
        }
    }
    volume.finish().expect("unmounted");
}

/// What commands write of [`populate`].
pub const DRESS: &str = "mknod tty c 5 0; mkfifo pipe; truncate -s 10M holes; printf x >>holes
         setfacl -m u:1000:rwx,m:rwx old/entry-001; setfacl -d -m g:100:rx old/lib
         setfattr -n user.note -v something old/entry-002; cp --reflink=always old/first shared
         i=0; while [ $i -lt 40 ]; do
           setfattr -n user.attribute-$i -v \"$(printf %0200d $i)\" many; i=$((i + 1))
         done";

/// Runs shell commands in a root mount of an image.
pub fn by_hand(image: &Path, commands: &str) {
    mounted(image, "nouuid", commands);
}

/// Runs shell commands in a root mount of an image, mounted with `options`.
pub fn mounted(image: &Path, options: &str, commands: &str) {
    let script = format!(
        "set -eu; mkdir -p \"$1.mounted\"; mount -o \"loop,$2\" \"$1\" \"$1.mounted\"
         trap 'cd /; umount \"$1.mounted\"; rmdir \"$1.mounted\"' EXIT
         cd \"$1.mounted\"\n{commands}\n"
    );
    let image = image.to_string_lossy();
    program::run("bash", &["-c", &script, "bash", &image, options]);
}

/// Has the kernel work on an image: what is wrong with its trees shows now.
pub fn churn(image: &Path) {
    by_hand(image, CHURN);
}

/// The work of [`churn`].
pub const CHURN: &str = "mkdir churned; i=0; while [ $i -lt 400 ]; do
           echo $i >churned/file-$i; i=$((i + 1))
         done
         cp -a old churned/; rm -rf churned/old/lib; rm -f churned/file-*[13579]
         for file in old/*; do [ -f \"$file\" ] && echo more >>\"$file\" || true; done
         dd if=/dev/zero of=churned/large bs=1M count=20 status=none; rm churned/large";

/// Attributes with a label of SELinux.
pub fn labelled(mode: u32, label: &str) -> Attributes {
    let mut attributes = plain(mode);
    let value = format!("system_u:object_r:{label}:s0\0");
    attributes
        .xattrs
        .insert("security.selinux".to_owned(), value.into_bytes());
    attributes
}

/// What a bake does: large programs, many small files, links, and changes of what is there.
pub fn payload() -> Vec<Operation> {
    let mut program = labelled(0o755, "bin_t");
    program.xattrs.insert(
        "security.capability".to_owned(),
        [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].to_vec(),
    );
    let mut list = vec![
        Operation::Folder(at("/usr"), labelled(0o755, "usr_t")),
        Operation::Folder(at("/usr/bin"), labelled(0o755, "bin_t")),
        Operation::Write(at("/usr/bin/kubelet"), 1, (40 << 20) + 77, program.clone()),
        Operation::Link(
            at("/usr/bin/crictl"),
            b"kubelet".to_vec(),
            labelled(0o777, "bin_t"),
        ),
    ];
    for number in 0..300 {
        list.push(Operation::Write(
            at(&format!("/usr/bin/tool-{number}")),
            number,
            (number * 241) as usize,
            labelled(0o644, "bin_t"),
        ));
    }
    list.extend([
        Operation::Name(at("/usr/bin/kubelet"), at("/usr/bin/second")),
        // A capability and a label that are given and taken again.
        Operation::Dress(at("/usr/bin/second"), plain(0o4755)),
        Operation::Dress(at("/usr/bin/kubelet"), program),
        Operation::Dress(at("/usr/bin/tool-7"), plain(0o600)),
        Operation::Rename(at("/usr/bin/tool-7"), at("/usr/bin/tool-8")),
        Operation::Rename(at("/old"), at("/usr/older")),
        Operation::Append(at("/usr/older/entry-001"), 5, 100_000),
        Operation::Append(at("/shared"), 6, 30),
        Operation::Dress(at("/usr/older/entry-002"), labelled(0o640, "etc_t")),
        Operation::Remove(at("/tty")),
        Operation::RemoveTree(at("/usr/older/lib")),
        Operation::Write(at("/usr/older/first"), 9, 50_000, plain(0o644)),
        Operation::RemoveTree(at("/many")),
        Operation::Dress(at("/"), labelled(0o755, "root_t")),
    ]);
    list
}

/// Whether `xfs_repair -n` finds an image sound.
pub fn check(image: &Path) {
    let finished = run("xfs_repair", &["-n", "-f"], image);
    let said = String::from_utf8_lossy(&finished.stdout);
    assert_eq!(
        finished.code,
        Some(0),
        "xfs_repair -n {}:\n{said}{}",
        image.display(),
        finished.stderr
    );
}

/// An XFS `folder/root.xfs` that holds `tree`.
pub fn root(folder: &Path, tree: &Path) -> PathBuf {
    let root = make(folder, "root.xfs", &[], SIZE);
    by_hand(&root, &format!("cp -a '{}/.' .", tree.display()));
    root
}

/// Copies the file `from` into the file `to`, at `offset` bytes: a whole number of MiB.
pub fn paste(from: &Path, to: &Path, offset: u64) {
    program::run(
        "dd",
        &[
            &format!("if={}", text(from)),
            &format!("of={}", text(to)),
            "bs=1M",
            "conv=notrunc,sparse",
            &format!("seek={}", offset / MIB),
            "status=none",
        ],
    );
}
