//! Changes by the guest kernel, compared with the same ones through a root mount.

use std::path::Path;

use nodekiln::volume::agent::Kernel;
use nodekiln::volume::{Access, Volume};

use crate::program;
use crate::sequences::{Abilities, apply, apply_all, sequence};
use crate::volumes::{assert_same, through_kernel, tree};
use crate::xfs::{agent, copy, payload, reading, through, through_agent};

/// Does the operations of `seed` to two copies of `base` in `folder`, one through the agent
/// and one through a root mount. `check` is the file system's own checker.
///
/// # Panics
/// Where they differ.
pub fn compare_sequence(folder: &Path, base: &Path, seed: u64, check: impl Fn(&Path)) {
    let operations = sequence(seed, 80, Abilities::Linux);
    let ours = folder.join(format!("ours-{seed}"));
    let kernels = folder.join(format!("kernels-{seed}"));
    copy(base, &ours);
    copy(base, &kernels);
    let mut volume = through_agent(&ours).expect("opened");
    let mut oracle = through_kernel(&kernels, Access::Write);
    for (step, operation) in operations.iter().enumerate() {
        let done = apply(volume.as_mut(), operation);
        let expected = apply(oracle.as_mut(), operation);
        assert_eq!(done, expected, "seed {seed}, step {step}: {operation:?}");
    }
    finish_alike(&format!("seed {seed}"), volume, oracle, &ours, check);
    std::fs::remove_file(ours).expect("removed");
    std::fs::remove_file(kernels).expect("removed");
}

/// Gives the payload of a bake to the image `ours` through the agent under `kernel`, and to
/// a copy of it through a root mount. `check` is the file system's own checker.
///
/// # Panics
/// Where they differ.
pub fn compare_payload(name: &str, kernel: Kernel, ours: &Path, check: impl Fn(&Path)) {
    let kernels = ours.with_extension("kernels");
    copy(ours, &kernels);
    let mut oracle = through_kernel(&kernels, Access::Write);
    let size = std::fs::metadata(ours).expect("image is there").len();
    let mut volume = through(kernel, ours, 0..size, false).expect(name);
    assert_eq!(
        volume.identity(),
        oracle_identity(oracle.as_ref(), volume.as_ref())
    );
    let before = tree(oracle.as_mut());
    assert_same(&format!("{name}: before"), &tree(volume.as_mut()), &before);
    let (seen, told) = (volume.space().expect(name), oracle.space().expect(name));
    let free = (seen.free, told.free);
    assert!(free.0 <= free.1 && free.0 > free.1 / 2, "{name}: {free:?}");
    apply_all(oracle.as_mut(), &payload());
    apply_all(volume.as_mut(), &payload());
    finish_alike(name, volume, oracle, ours, check);
    std::fs::remove_file(kernels).expect("removed");
}

/// What the mount engine reads of a superblock, but for the last write, which it does not.
fn oracle_identity(oracle: &dyn Volume, volume: &dyn Volume) -> nodekiln::volume::Identity {
    nodekiln::volume::Identity {
        last_written: volume.identity().last_written,
        ..oracle.identity()
    }
}

/// Ends both; every reader must see the same tree in `ours`, and `check` find it sound.
fn finish_alike(
    name: &str,
    mut volume: Box<dyn Volume>,
    mut oracle: Box<dyn Volume>,
    ours: &Path,
    check: impl Fn(&Path),
) {
    let expected = tree(oracle.as_mut());
    let seen = tree(volume.as_mut());
    assert_same(&format!("{name}, as planned"), &seen, &expected);
    volume.finish().expect(name);
    oracle.finish().expect(name);
    check(ours);
    let seen = tree(reading(ours).expect(name).as_mut());
    assert_same(&format!("{name}, our reading"), &seen, &expected);
    let mut mounted = through_kernel(ours, Access::Read);
    let seen = tree(mounted.as_mut());
    mounted.finish().expect(name);
    assert_same(&format!("{name}, the kernel's reading"), &seen, &expected);
}

/// A machine with a distribution's kernel, and the agent of this tree in it.
pub fn machine() -> Kernel {
    let kernel = program::script("vm-kernel", "");
    let agent = std::fs::read(agent()).expect("it was built");
    Kernel::of_machine(kernel, agent).expect("QEMU is installed")
}
