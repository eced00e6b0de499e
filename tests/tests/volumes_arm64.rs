//! XFS and FAT through a guest kernel for arm64, in the machine that a host of arm64 has
//! emulated, against the same changes through a root mount and in process. The host of the
//! tests need not be one: the machine is emulated in software in any case.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodekiln::Class;
use nodekiln::volume::agent::Kernel;
use nodekiln::volume::{Access, Volume, open};
use nodekiln_tests::program::{assert_static_for_every_page, output, script};
use nodekiln_tests::sequences::{Abilities, apply, apply_all, sequence};
use nodekiln_tests::volumes::{EPOCH, RawFile, assert_same, in_process, through_kernel, tree};
use nodekiln_tests::xfs::{self, SIZE, arm64_agent, copy, populate, reading, through};
use nodekiln_tests::{fat, small_base::text};

fn with(kernel: PathBuf) -> Kernel {
    let agent = std::fs::read(arm64_agent()).expect("it was built");
    Kernel::of_machine(kernel, agent).expect("QEMU is installed")
}

/// The machine with Debian's kernel.
fn machine() -> Kernel {
    with(script("vm-kernel", "arm64"))
}

/// Ends the volume of `image` and its oracle, and fails unless everybody finds on `image`
/// what the oracle has.
fn judge(what: &str, image: &Path, volume: Box<dyn Volume>, mut oracle: Box<dyn Volume>) {
    let mut volume = volume;
    let expected = tree(oracle.as_mut());
    let planned = tree(volume.as_mut());
    assert_same(&format!("{what}, as planned"), &planned, &expected);
    volume.finish().expect("the machine ends well");
    oracle.finish().expect("unmounted");
    xfs::check(image);
    let read = tree(reading(image).expect("opened").as_mut());
    assert_same(&format!("{what}, our reading"), &read, &expected);
    let mut mounted = through_kernel(image, Access::Read);
    let found = tree(mounted.as_mut());
    mounted.finish().expect("unmounted");
    assert_same(&format!("{what}, the kernel's"), &found, &expected);
}

#[test]
fn xfs_is_what_a_root_mount_makes() {
    let folder = tempfile::tempdir().expect("folder");
    let image = xfs::make(folder.path(), "ours", &[], SIZE);
    populate(&image);
    let kernels = folder.path().join("kernels");
    copy(&image, &kernels);
    // Room to grow into: by an ioctl, whose number could be another on arm64.
    let size = SIZE + (64 << 20);
    let file = File::options().write(true).open(&image);
    file.and_then(|file| file.set_len(size)).expect("sized");
    let before = reading(&image).expect("opened").space().expect("space");
    let mut volume = through(machine(), &image, 0..size, true).expect("opened");
    let mut oracle = through_kernel(&kernels, Access::Write);
    let payload = xfs::payload();
    apply_all(oracle.as_mut(), &payload);
    apply_all(volume.as_mut(), &payload);
    judge("a payload", &image, volume, oracle);
    let after = reading(&image).expect("opened").space().expect("space");
    assert_eq!(after.total, before.total + (64 << 20));

    // Changes at random, those that are refused among them, on what it left.
    let mut volume = through(machine(), &image, 0..size, false).expect("opened");
    let mut oracle = through_kernel(&kernels, Access::Write);
    for (step, operation) in sequence(64, 80, Abilities::Linux).iter().enumerate() {
        let done = apply(volume.as_mut(), operation);
        let expected = apply(oracle.as_mut(), operation);
        assert_eq!(done, expected, "step {step}: {operation:?}");
    }
    judge("changes at random", &image, volume, oracle);
    xfs::churn(&image);
    xfs::check(&image);
}

/// The kernel at `kernel` as Fedora and RHEL 10 have it, a program for EFI that unpacks it,
/// in `to`; its modules lie beside it.
fn pack(kernel: &Path, to: &Path) {
    let packed = output("zstd", &["-q", "-3", "-c", text(kernel)]);
    assert!(packed.status.success(), "zstd packs it");
    let mut program = File::create(to).expect("created");
    // Linux, `drivers/firmware/efi/libstub/zboot-header.S`.
    let mut head = b"MZ\0\0zimg".to_vec();
    head.extend_from_slice(&4096u32.to_le_bytes());
    head.extend_from_slice(&(packed.stdout.len() as u32).to_le_bytes());
    head.resize(24, 0);
    head.extend_from_slice(b"zstd22");
    head.resize(4096, 0);
    program.write_all(&head).expect("written");
    program.write_all(&packed.stdout).expect("written");
}

#[test]
fn fat_is_what_this_process_makes() {
    let folder = tempfile::tempdir().expect("folder");
    let kernel = script("vm-kernel", "arm64");
    let root = kernel.ancestors().nth(2).expect("it lies in boot");
    std::os::unix::fs::symlink(root.join("lib"), folder.path().join("lib")).expect("linked");
    let boot = folder.path().join("boot");
    std::fs::create_dir(&boot).expect("created");
    let packed = boot.join(kernel.file_name().expect("it has a name"));
    pack(&kernel, &packed);

    let size = 40 << 20;
    let image = fat::make(folder.path(), "image", &["-F", "32", "-s", "1"], size);
    let other = folder.path().join("other");
    std::fs::copy(&image, &other).expect("copied");
    let mut volume = through(with(packed), &image, 0..size, false).expect("opened");
    let mut oracle = in_process(&other).expect("opened");
    apply_all(oracle.as_mut(), &fat::payload());
    apply_all(volume.as_mut(), &fat::payload());
    let expected = tree(oracle.as_mut());
    volume.finish().expect("the machine ends well");
    oracle.finish().expect("written");
    fat::check(&image);
    let storage = RawFile::open(&image).expect("opened");
    let mut read = open(Arc::new(storage), Access::Read, EPOCH).expect("read");
    assert_same("by a machine", &tree(read.as_mut()), &expected);
}

#[test]
fn the_agent_fits_every_size_of_pages() {
    assert_static_for_every_page(&arm64_agent());
}

#[test]
fn kernel_and_agent_are_for_the_same_processor() {
    // Heads of programs with `e_machine`, and no more.
    let agent = |machine| {
        let mut head = b"\x7fELF\x02\x01".to_vec();
        head.resize(64, 0);
        head[18] = machine;
        head
    };
    for (is, machine, wanted) in [("x86_64", 183, "arm64"), ("arm64", 62, "x86_64")] {
        let refused = Kernel::of_machine(script("vm-kernel", is), agent(machine));
        let error = refused.expect_err("they do not fit");
        assert_eq!(error.class(), Class::Environment);
        let said = error.to_string();
        assert!(said.contains(&format!(" is for {is}, ")), "{said}");
        assert!(said.ends_with(&format!("one of {wanted}")), "{said}");
    }
    // Named from where this process is, it is found from everywhere.
    let kernel = script("vm-kernel", "arm64");
    let here = std::env::current_dir().expect("a folder");
    let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
    let named = up.join(kernel.strip_prefix("/").expect("absolute"));
    let machine = Kernel::of_machine(named, agent(183)).expect("they fit");
    let name = machine.name();
    let path = name.split(" with ").nth(1).expect("a kernel");
    assert!(Path::new(path).is_absolute(), "{name}");
}
