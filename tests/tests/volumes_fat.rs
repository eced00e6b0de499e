//! FAT, on file systems that mkfs.vfat made; ext4 through the kernel says what
//! the operations mean, mtools and another crate say what is there.

use std::collections::BTreeMap;
use std::io::{Seek as _, Write as _};
use std::path::Path;

use nodekiln::volume::{Access, FileSystem, Problem, problem};
use nodekiln_tests::fat::{LAYOUTS, check, make, read_by_another, reduced};
use nodekiln_tests::sequences::{Abilities, apply, sequence};
use nodekiln_tests::volumes::{
    EPOCH, at, blank, bytes, content, in_process, must, plain, run, through_kernel, tree,
};

#[test]
fn random_sequences_on_fat_mean_what_they_mean_on_ext4() {
    let folder = tempfile::tempdir().expect("folder");
    let oracle_base = blank(folder.path(), "ext4", 64 << 20);
    must("mkfs.ext4", &["-q", "-F"], &oracle_base);
    let wanted: u64 = std::env::var("NODEKILN_SEQUENCES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(500);
    for seed in 10_000..10_000 + wanted / 10 {
        let (name, options, size, other_reads) = LAYOUTS[(seed % LAYOUTS.len() as u64) as usize];
        let image = make(folder.path(), &format!("fat-{seed}"), options, size);
        let base = std::fs::read(&image).expect("read");
        let oracle_image = folder.path().join("oracle");
        std::fs::copy(&oracle_base, &oracle_image).expect("copied");
        let mut volume = in_process(&image).expect(name);
        let mut oracle = through_kernel(&oracle_image, Access::Write);
        let operations = sequence(seed, 50, Abilities::Fat);
        for (step, operation) in operations.iter().enumerate() {
            let done = apply(volume.as_mut(), operation);
            if done
                .as_ref()
                .is_some_and(|why| why.problem == Some(Problem::NoSpace))
            {
                // The oracle is larger: what did not fit is not done there.
                continue;
            }
            let expected = apply(oracle.as_mut(), operation);
            assert_eq!(
                done, expected,
                "{name}, seed {seed}, step {step}: {operation:?}"
            );
        }
        let ours = reduced(&tree(volume.as_mut()));
        let expected = reduced(&tree(oracle.as_mut()));
        for (path, node) in &expected {
            assert_eq!(ours.get(path), Some(node), "{name}, seed {seed}: {path}");
        }
        assert_eq!(ours.len(), expected.len(), "{name}, seed {seed}");
        volume.finish().expect("finished");
        oracle.finish().expect("unmounted");
        check(&image);
        if other_reads {
            let seen = read_by_another(&image);
            let ours: BTreeMap<_, _> = ours
                .into_iter()
                .map(|(path, node)| (path, (node.0, node.1)))
                .collect();
            assert_eq!(seen, ours, "{name}, seed {seed}");
        }
        let first = std::fs::read(&image).expect("read");
        std::fs::write(&image, base).expect("written");
        let mut volume = in_process(&image).expect(name);
        for operation in &operations {
            apply(volume.as_mut(), operation);
        }
        volume.finish().expect("finished");
        assert!(
            first == std::fs::read(&image).expect("read"),
            "seed {seed}: other bytes"
        );
        std::fs::remove_file(image).expect("removed");
    }
}

#[test]
fn mtools_reads_what_was_written() {
    let folder = tempfile::tempdir().expect("folder");
    for (name, options, size, other_reads) in LAYOUTS {
        let image = make(folder.path(), name, options, *size);
        let mut volume = in_process(&image).expect(name);
        assert_eq!(volume.identity().file_system, FileSystem::Fat);
        assert_eq!(volume.identity().label, "UEFI", "{name}");
        assert_eq!(volume.identity().uuid, "1A2B-3C4D", "{name}");
        for path in ["/EFI", "/EFI/BOOT", "/EFI/ubuntu with a long name"] {
            volume
                .create_directory(&at(path), &plain(0o755))
                .expect(name);
        }
        let shim = bytes(3, 900_000);
        volume
            .write_file(
                &at("/EFI/BOOT/BOOTX64.EFI"),
                900_000,
                &mut &shim[..],
                &plain(0o644),
            )
            .expect(name);
        volume
            .write_file(
                &at("/EFI/ubuntu with a long name/grub.cfg"),
                4,
                &mut &b"set\n"[..],
                &plain(0o644),
            )
            .expect(name);
        // Case does not matter, and the name's spelling is kept.
        assert_eq!(content(volume.as_mut(), "/efi/boot/bootx64.efi"), shim);
        let names = volume.read_directory(&at("/EFI")).expect(name);
        assert_eq!(names[1].name, b"ubuntu with a long name");
        volume.finish().expect(name);
        check(&image);
        if !other_reads {
            // mtools opens no FAT32 of fewer than 65,525 clusters, edited or not.
            let listing = must("fsck.vfat", &["-n", "-l"], &image);
            assert!(listing.contains("/EFI/BOOT/BOOTX64.EFI"), "{listing}");
            continue;
        }
        let image_text = image.to_str().expect("UTF-8");
        let shown = must(
            "mtype",
            &["-i", image_text],
            Path::new("::EFI/ubuntu with a long name/GRUB.CFG"),
        );
        assert_eq!(shown, "set\n", "{name}");
        let copy = folder.path().join("copy");
        must(
            "mcopy",
            &["-n", "-i", image_text, "::EFI/BOOT/BOOTX64.EFI"],
            &copy,
        );
        assert!(std::fs::read(&copy).expect("read") == shim, "{name}");
        std::fs::remove_file(copy).expect("removed");
        let listing = must("mdir", &["-i", image_text], Path::new("::EFI/BOOT"));
        assert!(listing.contains("2025-10-09"), "{name}: {listing}");
        assert_eq!(EPOCH.seconds, 1_760_000_000);
    }
}

#[test]
fn what_fat_cannot_hold_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let image = make(folder.path(), "fat", &["-F", "16"], 16 << 20);
    let mut volume = in_process(&image).expect("opened");
    let mut labelled = plain(0o644);
    labelled
        .xattrs
        .insert("security.selinux".to_owned(), b"x".to_vec());
    let refusals = [
        volume.create_symlink(&at("/l"), b"x", &plain(0o777)),
        volume.write_file(&at("/x"), 0, &mut &b""[..], &labelled),
        volume.write_file(&at("/a:b"), 0, &mut &b""[..], &plain(0o644)),
        volume.write_file(&at("/dot."), 0, &mut &b""[..], &plain(0o644)),
    ];
    for refusal in refusals {
        let why = refusal.expect_err("refused");
        assert_eq!(problem(&why), Some(Problem::NotSupported), "{why:?}");
    }
    // Too little room: nothing is written.
    let before = std::fs::read(&image).expect("read");
    let free = volume.space().expect("space").free;
    let data = vec![1; free as usize + 1];
    let why = volume
        .write_file(&at("/large"), free + 1, &mut &data[..], &plain(0o644))
        .expect_err("too large");
    assert_eq!(problem(&why), Some(Problem::NoSpace));
    assert!(before == std::fs::read(&image).expect("read"));
    volume
        .write_file(
            &at("/all"),
            free,
            &mut &data[..free as usize],
            &plain(0o644),
        )
        .expect("exactly all of it");
    let why = volume
        .create_directory(&at("/d"), &plain(0o755))
        .expect_err("full");
    assert_eq!(problem(&why), Some(Problem::NoSpace));
    volume
        .write_file(&at("/ALL"), 5, &mut &b"small"[..], &plain(0o644))
        .expect("replaces, whatever its case");
    volume
        .rename(&at("/ALL"), &at("/all"))
        .expect("only the case changes");
    assert_eq!(
        volume.read_directory(&at("/")).expect("listed")[0].name,
        b"all"
    );
    volume.finish().expect("finished");
    check(&image);
}

#[test]
fn damaged_fat_is_refused_and_a_mere_mark_is_not() {
    let folder = tempfile::tempdir().expect("folder");
    let image = make(folder.path(), "fat", &["-F", "16"], 16 << 20);
    let mut volume = in_process(&image).expect("opened");
    let data = bytes(1, 100_000);
    for path in ["/one", "/two"] {
        volume
            .write_file(&at(path), 100_000, &mut &data[..], &plain(0o644))
            .expect("written");
    }
    volume.finish().expect("finished");
    let sound = std::fs::read(&image).expect("read");
    let change = |at: usize, value: &[u8]| {
        let mut bytes = sound.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        std::fs::write(&image, bytes).expect("written");
    };
    // In use, says the boot sector; the walk finds nothing.
    change(37, &[1]);
    assert_ne!(
        run("fsck.vfat", &["-n"], &image).code,
        Some(0),
        "the mark is seen"
    );
    in_process(&image)
        .expect("sound")
        .finish()
        .expect("finished");
    check(&image);
    // The second table differs; a chain that is a cycle; a lost cluster.
    let reserved = usize::from(sound[14]) * 512;
    let table = usize::from(sound[22]) * 512 + usize::from(sound[23]) * 131_072;
    for (at, value) in [
        (reserved + table + 40, vec![0x55, 0x55]),
        (reserved + 4, vec![2, 0]),
        (reserved + 20_000, vec![0xFF, 0xFF]),
        (17, vec![0, 0]),
    ] {
        change(at, &value);
        let why = in_process(&image).expect_err("damaged");
        assert_eq!(problem(&why), Some(Problem::Damaged), "{why:?}");
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .open(&image)
        .expect("opened");
    file.rewind().expect("rewound");
    file.write_all(&sound).expect("written");
    file.set_len(8 << 20).expect("cut");
    let why = in_process(&image).expect_err("truncated");
    assert_eq!(problem(&why), Some(Problem::Damaged));
}
