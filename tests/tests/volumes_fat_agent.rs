//! FAT through the guest kernel, against the same changes in process; fsck.vfat, mtools and
//! another crate say what is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nodekiln::volume::agent::{Kernel, installed};
use nodekiln::volume::{Access, Problem, Volume, open, problem};
use nodekiln::{Class, ImagePath};
use nodekiln_tests::fat::{LAYOUTS, check, make, payload, read_by_another, reduced};
use nodekiln_tests::sequences::{Abilities, Operation, apply, apply_all, for_each_seed, sequence};
use nodekiln_tests::small_base::cut;
use nodekiln_tests::volumes::{
    EPOCH, Numbers, RawFile, assert_same, at, bytes, in_process, must, plain, run, tree,
};
use nodekiln_tests::xfs::{agent, paste, through, through_agent};

/// Opens the volume on an image.
type Opens = fn(&Path) -> nodekiln::Result<Box<dyn Volume>>;

fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).expect("copied");
}

fn read(image: &Path) -> Box<dyn Volume> {
    let storage = RawFile::open(image).expect("opened");
    open(std::sync::Arc::new(storage), Access::Read, EPOCH).expect("read")
}

/// Fails unless everybody finds the tree of `expected` on `image`.
fn judge(what: &str, image: &Path, expected: &mut dyn Volume, other_reads: bool) {
    check(image);
    let expected = tree(expected);
    assert_same(what, &tree(read(image).as_mut()), &expected);
    if other_reads {
        let expected: BTreeMap<ImagePath, _> = reduced(&expected)
            .into_iter()
            .map(|(path, node)| (path, (node.0, node.1)))
            .collect();
        assert_eq!(
            read_by_another(image),
            expected,
            "{what}: another's reading"
        );
    }
}

#[test]
fn a_payload_on_every_layout_is_what_this_process_makes() {
    let folder = tempfile::tempdir().expect("folder");
    for (name, options, size, other_reads) in LAYOUTS {
        let ours = make(folder.path(), "ours", options, *size);
        let other = folder.path().join("other");
        copy(&ours, &other);
        let mut volume = through_agent(&ours).expect(name);
        let mut oracle = in_process(&other).expect(name);
        assert_eq!(volume.identity(), oracle.identity(), "{name}");
        apply_all(oracle.as_mut(), &payload());
        apply_all(volume.as_mut(), &payload());
        assert_eq!(
            volume.space().expect(name),
            oracle.space().expect(name),
            "{name}"
        );
        assert_same(
            &format!("{name}: as planned"),
            &tree(volume.as_mut()),
            &tree(oracle.as_mut()),
        );
        let untouched = make(folder.path(), "untouched", options, *size);
        run("cmp", &[untouched.to_str().expect("UTF-8")], &ours);
        volume.finish().expect(name);
        judge(name, &ours, oracle.as_mut(), *other_reads);
        oracle.finish().expect(name);
        if *other_reads {
            by_mtools(&ours, &other);
        }
        // It goes on from what the kernel left, in process and by the kernel.
        for (engine, is_there) in [(in_process as Opens, true), (through_agent, false)] {
            let mut volume = engine(&ours).expect(name);
            let path = at("/EFI/BOOT/later.efi");
            let data = bytes(8, 300_000);
            volume
                .write_file(&path, 300_000, &mut &data[..], &plain(0o644))
                .expect(name);
            let removed = volume.remove_file(&at("/LOADER/Loader.Conf"));
            let refusal = removed.err().and_then(|error| problem(&error));
            let wanted = (!is_there).then_some(Problem::NotFound);
            assert_eq!(refusal, wanted, "{name}");
            volume.finish().expect(name);
            check(&ours);
        }
        for image in [ours, other, untouched] {
            std::fs::remove_file(image).expect("removed");
        }
    }
}

/// mtools finds the same names, times and contents on both images.
fn by_mtools(ours: &Path, other: &Path) {
    let shown = |image: &Path, program: &str, arguments: &[&str], path: &str| {
        let mut all = vec!["-i", image.to_str().expect("UTF-8")];
        all.extend_from_slice(arguments);
        must(program, &all, Path::new(path))
    };
    let listing = shown(ours, "mdir", &["-b", "-/"], "::/");
    assert!(listing.contains("::/EFI/BOOT/bootx64.efi"), "{listing}");
    assert!(listing.contains("::/EFI/BOOT/Mixed.CASE"), "{listing}");
    let sorted = |image: &Path| {
        let listing = shown(image, "mdir", &["-b", "-/"], "::/");
        let mut lines: Vec<String> = listing.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(ours), sorted(other));
    for path in ["::EFI/BOOT/BOOTX64.EFI", "::loader/loader.conf"] {
        let name = ours.with_extension("copy");
        let contents = [ours, other].map(|image| {
            let arguments = ["-n", "-i", image.to_str().expect("UTF-8"), path];
            must("mcopy", &arguments, &name);
            let content = std::fs::read(&name).expect("read");
            std::fs::remove_file(&name).expect("removed");
            content
        });
        assert!(
            contents[0] == contents[1] && contents[0].len() > 300_000,
            "{path}"
        );
    }
    let folder = shown(ours, "mdir", &[], "::EFI/BOOT");
    assert!(folder.contains("2025-10-09"), "{folder}");
    let folder = shown(ours, "mdir", &[], "::loader");
    assert!(folder.contains("2025-10-10"), "{folder}");
}

/// The same operation with another case of its paths, now and then.
fn cased(operation: &Operation, numbers: &mut Numbers) -> Operation {
    let mut cased = |path: &ImagePath| {
        let text = path.as_str().expect("names are UTF-8").to_owned();
        match numbers.below(4) {
            0 => at(&text.to_uppercase()),
            1 => at(&text.replace('e', "E").replace('x', "X")),
            _ => path.clone(),
        }
    };
    match operation {
        Operation::Folder(path, attributes) => Operation::Folder(cased(path), attributes.clone()),
        Operation::Write(path, seed, size, attributes) => {
            Operation::Write(cased(path), *seed, *size, attributes.clone())
        }
        Operation::Append(path, seed, size) => Operation::Append(cased(path), *seed, *size),
        Operation::Remove(path) => Operation::Remove(cased(path)),
        Operation::RemoveFolder(path) => Operation::RemoveFolder(cased(path)),
        Operation::RemoveTree(path) => Operation::RemoveTree(cased(path)),
        Operation::Rename(from, to) => Operation::Rename(cased(from), cased(to)),
        other => other.clone(),
    }
}

#[test]
fn random_sequences_by_the_guest_kernel_equal_this_process() {
    let folder = tempfile::tempdir().expect("folder");
    let bases: Vec<(&str, (PathBuf, bool))> = LAYOUTS
        .iter()
        .map(|(name, options, size, other_reads)| {
            let base = make(folder.path(), &format!("base {name}"), options, *size);
            (*name, (base, *other_reads))
        })
        .collect();
    for_each_seed(30, 2, &bases, |seed, (base, other_reads)| {
        compare_sequence(folder.path(), base, seed, *other_reads);
    });
}

fn compare_sequence(folder: &Path, base: &Path, seed: u64, other_reads: bool) {
    let mut numbers = Numbers::new(seed);
    let ours = folder.join(format!("ours-{seed}"));
    let other = folder.join(format!("other-{seed}"));
    copy(base, &ours);
    copy(base, &other);
    let mut oracle = in_process(&other).expect("opened");
    // Twice: what the kernel left is where the second goes on.
    for round in 0..2 {
        let mut volume = through_agent(&ours).expect("opened");
        let operations = sequence(20_000 + 2 * seed + round, 50, Abilities::Fat);
        for (step, operation) in operations.iter().enumerate() {
            let operation = cased(operation, &mut numbers);
            let done = apply(volume.as_mut(), &operation);
            let expected = apply(oracle.as_mut(), &operation);
            assert_eq!(done, expected, "seed {seed}, step {step}: {operation:?}");
        }
        let (planned, expected) = (tree(volume.as_mut()), tree(oracle.as_mut()));
        assert_same(&format!("seed {seed}, as planned"), &planned, &expected);
        volume.finish().expect("finished");
        let what = format!("seed {seed}, round {round}");
        judge(&what, &ours, oracle.as_mut(), other_reads);
    }
    oracle.finish().expect("finished");
    std::fs::remove_file(ours).expect("removed");
    std::fs::remove_file(other).expect("removed");
}

#[test]
fn a_full_fat_says_so_at_once() {
    let folder = tempfile::tempdir().expect("folder");
    let image = make(folder.path(), "image", &["-F", "16"], 16 << 20);
    let mut volume = through_agent(&image).expect("opened");
    let free = volume.space().expect("space").free;
    let data = bytes(1, free as usize + 1);
    let write = |volume: &mut dyn Volume, path: &str, size: u64| {
        let mut content = &data[..size as usize];
        volume.write_file(&at(path), size, &mut content, &plain(0o644))
    };
    write(volume.as_mut(), "/old", 3 << 20).expect("written");
    let error = write(volume.as_mut(), "/large", free).expect_err("too large");
    assert_eq!(problem(&error), Some(Problem::NoSpace), "{error:?}");
    assert_eq!(error.class(), Class::Environment);
    assert!(error.to_string().contains("write /large"), "{error}");
    let error = volume.append_file(&at("/old"), &data).expect_err("full");
    assert!(error.to_string().contains("append to /old"), "{error}");
    // All of it, in place of what is there.
    write(volume.as_mut(), "/OLD", free).expect("exactly all of it");
    let error = volume
        .create_directory(&at("/folder"), &plain(0o755))
        .expect_err("full");
    assert_eq!(problem(&error), Some(Problem::NoSpace), "{error:?}");
    volume.finish().expect("the kernel finds the same room");
    check(&image);
    let mut volume = read(&image);
    let names = volume.read_directory(&at("/")).expect("listed");
    assert_eq!(names.len(), 1, "{names:?}");
    assert_eq!(names[0].name, b"OLD");
    assert_eq!(volume.space().expect("space").free, 0);
    let mut content = Vec::new();
    volume.read_file(&at("/old"), &mut content).expect("read");
    assert!(content == data[..free as usize]);
}

#[test]
fn damaged_fat_is_refused_and_a_mere_mark_is_not() {
    let folder = tempfile::tempdir().expect("folder");
    for (name, options, size, mark, table_mark) in [
        ("FAT16", &["-F", "16"][..], 16 << 20, 37, 3),
        ("FAT32", &["-F", "32", "-s", "1"][..], 40 << 20, 65, 7),
    ] {
        let image = make(folder.path(), name, options, size);
        let mut volume = through_agent(&image).expect(name);
        apply_all(volume.as_mut(), &payload());
        let expected = tree(volume.as_mut());
        volume.finish().expect(name);
        let sound = std::fs::read(&image).expect("read");
        let change = |changes: &[(usize, u8)]| {
            let mut bytes = sound.clone();
            for (at, value) in changes {
                bytes[*at] = *value;
            }
            std::fs::write(&image, bytes).expect("written");
        };
        let reserved = usize::from(u16::from_le_bytes([sound[14], sound[15]])) * 512;
        let both = |at: usize| {
            let sectors = match usize::from(u16::from_le_bytes([sound[22], sound[23]])) {
                0 => u32::from_le_bytes([sound[36], sound[37], sound[38], sound[39]]) as usize,
                sectors => sectors,
            };
            [reserved + at, reserved + sectors * 512 + at]
        };
        // In use, say boot sector and tables; nothing else is wrong.
        let [first, second] = both(table_mark);
        let clean = sound[first];
        change(&[(mark, 1), (first, clean & 0x07), (second, clean & 0x07)]);
        let judged = run("fsck.vfat", &["-n"], &image);
        assert_ne!(judged.code, Some(0), "{name}: the mark is seen");
        let volume = through_agent(&image).expect(name);
        volume.finish().expect("nothing to do but that");
        check(&image);
        change(&[(mark, 1), (first, clean & 0x07), (second, clean & 0x07)]);
        let mut volume = through_agent(&image).expect(name);
        volume.remove_file(&at("/efi/boot/MIXED.CASE")).expect(name);
        volume.finish().expect("the kernel takes it, too");
        check(&image);
        let mut expected = expected;
        expected.remove(&at("/EFI/BOOT/Mixed.CASE"));
        assert_same(name, &tree(read(&image).as_mut()), &expected);
        // The second table differs.
        let [_, second] = both(40);
        change(&[(second, sound[second] ^ 0x55)]);
        let before = std::fs::read(&image).expect("read");
        let error = through_agent(&image).expect_err("damaged");
        assert_eq!(problem(&error), Some(Problem::Damaged), "{error:?}");
        let said = in_process(&image).expect_err("damaged");
        assert_eq!(format!("{error:?}"), format!("{said:?}"), "as in process");
        assert!(before == std::fs::read(&image).expect("read"));
    }
}

#[test]
fn a_partition_is_found_by_its_place() {
    let folder = tempfile::tempdir().expect("folder");
    let inner = make(folder.path(), "inner", &["-F", "16"], 16 << 20);
    let disk = folder.path().join("disk");
    let (start, size) = (4 << 20, 16 << 20);
    let file = std::fs::File::create(&disk).expect("created");
    file.set_len(start + size + (1 << 20)).expect("sized");
    let new = format!("-n15:{}:{}", start / 512, (start + size) / 512 - 1);
    must("sgdisk", &["-a1", &new, "-t15:ef00"], &disk);
    paste(&inner, &disk, start);
    let around = |disk: &Path| {
        let bytes = std::fs::read(disk).expect("read");
        let (start, end) = (start as usize, (start + size) as usize);
        [bytes[..start].to_vec(), bytes[end..].to_vec()]
    };
    let before = around(&disk);
    let kernel = nodekiln_tests::xfs::kernel();
    let mut volume = through(kernel, &disk, start..start + size, false).expect("opened");
    apply_all(volume.as_mut(), &payload());
    let expected = tree(volume.as_mut());
    volume.finish().expect("written");
    assert!(before == around(&disk), "nothing else is written");
    let part = folder.path().join("part");
    cut(&disk, start, size, &part);
    check(&part);
    assert_same("the partition", &tree(read(&part).as_mut()), &expected);
}

#[test]
fn a_machine_edits_fat_too() {
    let folder = tempfile::tempdir().expect("folder");
    let image = make(folder.path(), "image", &["-F", "32", "-s", "1"], 40 << 20);
    let agent = std::fs::read(agent()).expect("it was built");
    let kernel = nodekiln_tests::program::script("vm-kernel", "");
    let machine = Kernel::of_machine(kernel, agent).expect("QEMU is installed");
    let mut volume = through(machine, &image, 0..40 << 20, false).expect("opened");
    apply_all(volume.as_mut(), &payload());
    let expected = tree(volume.as_mut());
    volume.finish().expect("the machine ends well");
    check(&image);
    assert_same("by a machine", &tree(read(&image).as_mut()), &expected);
}

/// A kernel that is `commands` of a shell; `$linux` is the one that is installed.
fn stand_in(folder: &Path, commands: &str) -> Kernel {
    use std::os::unix::fs::PermissionsExt as _;
    let linux = installed("linux.uml").expect("it is installed");
    let path = folder.join("stand-in-for-a-kernel");
    let text = format!("#!/bin/sh\nlinux={}\n{commands}\n", linux.display());
    std::fs::write(&path, text).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    Kernel::new(path, std::fs::read(agent()).expect("it was built"))
}

#[test]
fn a_kernel_that_does_not_edit_fat_is_an_error() {
    let folder = tempfile::tempdir().expect("folder");
    let image = make(folder.path(), "image", &["-F", "16"], 16 << 20);
    let before = std::fs::read(&image).expect("read");
    let finish = |kernel: Kernel| {
        let mut volume = through(kernel, &image, 0..16 << 20, false).expect("opened");
        apply_all(volume.as_mut(), &payload());
        let error = volume.finish().expect_err("nothing was done");
        assert_eq!(error.class(), Class::Environment, "{error:?}");
        error
    };
    // One whose modules are not to be found has no driver.
    let error = finish(stand_in(
        folder.path(),
        "[ \"$1\" != --version ] || { echo 0.0.0; exit; }\nexec $linux \"$@\"",
    ));
    let said = error.to_string();
    assert!(said.contains("mount vfat"), "{said}");
    assert!(said.contains("has no driver for it"), "{said}");
    let hint = error.hint_text().unwrap_or_default();
    assert!(hint.contains("scripts/build-guest-kernel"), "{hint}");
    assert!(before == std::fs::read(&image).expect("read"));
    // One that says that all was done, and did nothing.
    let error = finish(stand_in(
        folder.path(),
        "for word; do case $word in ubd2d=*) answer=${word#*=} ;; ubd1dr=*) payload=${word#*=} ;; esac; done
         [ -n \"$answer\" ] || exit 1
         { printf NKANSWER; head -c 40 $payload | tail -c 32; head -c 5 /dev/zero
           head -c 96 $payload | tail -c 8; head -c 4 /dev/zero; } >$answer",
    ));
    let said = error.to_string();
    assert!(said.contains("left /EFI other than foreseen"), "{said}");
    assert!(before == std::fs::read(&image).expect("read"));
}

#[test]
#[ignore = "builds a kernel: make e2e"]
fn our_kernel_writes_the_same_bytes_of_fat_twice() {
    let folder = tempfile::tempdir().expect("folder");
    let program = nodekiln_tests::program::script("build-guest-kernel", "");
    for (name, options, size, other_reads) in LAYOUTS {
        let base = make(folder.path(), "base", options, *size);
        let mut written = Vec::new();
        for _ in 0..2 {
            let image = folder.path().join("image");
            copy(&base, &image);
            let agent = std::fs::read(agent()).expect("it was built");
            let kernel = Kernel::new(program.clone(), agent);
            let mut volume = through(kernel, &image, 0..*size, false).expect(name);
            apply_all(volume.as_mut(), &payload());
            let other = folder.path().join("other");
            copy(&base, &other);
            let mut oracle = in_process(&other).expect(name);
            apply_all(oracle.as_mut(), &payload());
            volume.finish().expect(name);
            judge(name, &image, oracle.as_mut(), *other_reads);
            written.push(std::fs::read(&image).expect("read"));
        }
        assert!(written[0] == written[1], "{name}: other bytes");
        std::fs::remove_file(base).expect("removed");
    }
}
