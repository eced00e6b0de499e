//! The checker against e2fsck: sound file systems of every kind have no
//! finding, and what e2fsck finds in broken ones is found too.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nodekiln::volume::ext4::check::check;
use nodekiln_tests::plain::Plain;
use nodekiln_tests::program::{output, run};

/// Files, links, a folder that needs an index, attributes, a long link.
fn fill(tree: &Path) {
    let many = tree.join("many");
    std::fs::create_dir_all(&many).expect("folder");
    for number in 0..1500 {
        std::fs::write(many.join(format!("a-rather-long-name-{number:05}")), b"x").expect("file");
    }
    std::fs::write(tree.join("large"), vec![7; 3 << 20]).expect("file");
    std::fs::hard_link(tree.join("large"), tree.join("again")).expect("hard link");
    std::os::unix::fs::symlink("large", tree.join("link")).expect("link");
    std::os::unix::fs::symlink("l".repeat(200), tree.join("long-link")).expect("link");
    let large = tree.join("large");
    run(
        "setfattr",
        &[
            "-n",
            "user.big",
            "-v",
            &"v".repeat(900),
            large.to_str().expect("UTF-8"),
        ],
    );
}

fn image(folder: &Path, options: &[&str]) -> PathBuf {
    let tree = folder.join("tree");
    if !tree.exists() {
        std::fs::create_dir(&tree).expect("tree");
        fill(&tree);
    }
    let image = folder.join("image");
    File::create(&image)
        .expect("image")
        .set_len(96 << 20)
        .expect("sized");
    let mut arguments = vec![
        "-q",
        "-F",
        "-t",
        "ext4",
        "-d",
        tree.to_str().expect("UTF-8"),
    ];
    arguments.extend(options);
    arguments.push(image.to_str().expect("UTF-8"));
    run("mke2fs", &arguments);
    image
}

fn name(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn has_nothing_to_say_about_sound_file_systems() {
    let folder = tempfile::tempdir().expect("folder");
    for options in [
        &[][..],
        &["-b", "4096", "-O", "metadata_csum_seed,orphan_file"],
        &["-b", "4096", "-O", "^metadata_csum,uninit_bg"],
        &["-O", "^metadata_csum,^uninit_bg,^64bit"],
        &["-O", "^flex_bg,^resize_inode"],
        &["-O", "^has_journal"],
        &["-I", "128"],
        &["-b", "2048", "-E", "lazy_itable_init=0"],
    ] {
        let image = image(folder.path(), options);
        run("e2fsck", &["-fn", name(&image)]);
        let findings = check(&Plain::open(&image)).expect("runs");
        assert!(findings.is_empty(), "{options:?}: {findings:#?}");
    }
}

/// What the kernel writes: indexed folders, fragmented files, freed inodes.
#[test]
fn has_nothing_to_say_about_what_the_kernel_wrote() {
    let folder = tempfile::tempdir().expect("folder");
    let image = image(folder.path(), &["-b", "4096"]);
    let mount = folder.path().join("mount");
    std::fs::create_dir(&mount).expect("mount point");
    run("mount", &["-o", "loop", name(&image), name(&mount)]);
    let script = "cd \"$1\" && mkdir deep && for i in $(seq 3000); do echo $i > deep/name-$i; done && \
        for i in $(seq 1 3 3000); do rm deep/name-$i; done && \
        for i in $(seq 40); do for j in 1 2 3 4 5 6; do head -c 9000 /dev/urandom >> frag-$j; done; done && \
        setfattr -n user.a -v \"$(head -c 600 /dev/zero | tr '\\0' v)\" frag-1 && \
        cp -a frag-1 frag-7 && mkfifo pipe && truncate -s 1G sparse && fallocate -l 2M reserved && rm -r many";
    run("sh", &["-c", script, "sh", name(&mount)]);
    run("umount", &[name(&mount)]);
    run("e2fsck", &["-fn", name(&image)]);
    let findings = check(&Plain::open(&image)).expect("runs");
    assert!(findings.is_empty(), "{findings:#?}");
}

/// One break a round, made with debugfs; e2fsck has to object, and so do we.
#[test]
fn finds_what_e2fsck_finds() {
    let folder = tempfile::tempdir().expect("folder");
    let sound = image(folder.path(), &["-b", "4096"]);
    let broken = folder.path().join("broken");
    let breaks = [
        "freeb 400 3",
        "setb 20000 2",
        "freei large",
        "clri large",
        "unlink many",
        "set_inode_field large links_count 5",
        "set_inode_field large blocks 1",
        "set_inode_field large checksum 0x1234",
        "set_inode_field many mode 0100644",
        "set_super_value free_blocks_count 17",
        "set_super_value free_inodes_count 17",
        "set_block_group 1 free_blocks_count 3",
        "set_block_group 0 checksum 0x1234",
        "set_block_group 0 bbitmap_csum 0x1234",
        "ln link nowhere/",
        "mknod odd p",
        "kill_file long-link",
        "seti <500>",
    ];
    let mut objected = 0;
    for command in breaks {
        std::fs::copy(&sound, &broken).expect("copied");
        output("debugfs", &["-w", "-R", command, name(&broken)]);
        let e2fsck_objects = !output("e2fsck", &["-fn", name(&broken)]).status.success();
        let findings = check(&Plain::open(&broken)).expect("runs");
        if e2fsck_objects {
            objected += 1;
            assert!(!findings.is_empty(), "'{command}' was not found");
        }
    }
    assert!(
        objected >= 10,
        "only {objected} of the breaks broke anything"
    );
}

/// Bytes changed where metadata lies: never a panic, and nearly always found.
#[test]
fn bears_any_damage() {
    let folder = tempfile::tempdir().expect("folder");
    let sound = image(folder.path(), &["-b", "4096"]);
    let file = Plain::open(&sound);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut found = 0;
    for _ in 0..200 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // The first 2 MiB hold superblock, descriptors, bitmaps and inodes.
        let place = 1024 + state % (2 << 20);
        let mut old = [0; 4];
        file.0.read_exact_at(&mut old, place).expect("read");
        let new = [
            old[0] ^ 0xFF,
            old[1] ^ 0x5A,
            old[2],
            old[3] ^ (state >> 40) as u8,
        ];
        file.0.write_all_at(&new, place).expect("write");
        if check(&file).map_or(true, |findings| !findings.is_empty()) {
            found += 1;
        }
        file.0.write_all_at(&old, place).expect("write back");
    }
    assert!(
        check(&file).expect("runs").is_empty(),
        "the image is as it was"
    );
    assert!(found > 20, "only {found} of 200 damages were found");
}

/// A list of blocks whose every entry is the list itself: walked to its end, it
/// has as many entries as a block holds, to the power of three.
#[test]
fn a_list_of_blocks_that_leads_to_itself_ends() {
    let folder = tempfile::tempdir().expect("folder");
    let image = image(
        folder.path(),
        &["-b", "4096", "-O", "^metadata_csum,uninit_bg"],
    );
    let answer = run("debugfs", &["-R", "bmap large 0", name(&image)]);
    // The program's own name and version come after it, as an error would.
    let answer = answer.lines().next().unwrap_or_default();
    let list: u32 = answer.trim().parse().expect("a block");
    let mut script = "set_inode_field large flags 0\n".to_owned();
    for slot in 0..12 {
        script += &format!("set_inode_field large block[{slot}] 0\n");
    }
    script += "set_inode_field large block[IND] 0\nset_inode_field large block[DIND] 0\n";
    script += &format!("set_inode_field large block[TIND] {list}\n");
    let commands = folder.path().join("commands");
    std::fs::write(&commands, script).expect("written");
    run("debugfs", &["-w", "-f", name(&commands), name(&image)]);
    let entries = list.to_le_bytes().repeat(1024);
    Plain::open(&image)
        .0
        .write_all_at(&entries, u64::from(list) * 4096)
        .expect("written");
    let findings = check(&Plain::open(&image)).expect("runs");
    let twice = format!("block {list} of inode ");
    assert!(
        findings.iter().any(|finding| finding.starts_with(&twice)),
        "{findings:#?}"
    );
}

/// An unknown layout is no damage, and no matter of growing.
#[test]
fn says_when_it_could_not_run() {
    let folder = tempfile::tempdir().expect("folder");
    for (feature, options) in [
        ("meta_bg", "meta_bg,^resize_inode"),
        ("sparse_super2", "sparse_super2,^resize_inode"),
        ("inline_data", "inline_data"),
    ] {
        let image = image(folder.path(), &["-b", "4096", "-O", options]);
        let error = check(&Plain::open(&image)).expect_err(feature);
        assert_eq!(error.class(), nodekiln::Class::Unsupported);
        assert!(error.to_string().contains("could not run"), "{error}");
        let why = std::error::Error::source(&error)
            .expect("cause")
            .to_string();
        assert!(why.contains(feature), "{why}");
        assert!(!error.hint_text().unwrap_or_default().contains("engine"));
    }
}

/// A folder of FAT has at most 65,536 entries; a chain of clusters may be as long
/// as the file system.
#[test]
fn reads_no_fat_folder_that_is_longer_than_any() {
    let folder = tempfile::tempdir().expect("folder");
    let image = folder.path().join("image");
    File::create(&image)
        .expect("image")
        .set_len(64 << 20)
        .expect("sized");
    run("mkfs.vfat", &["-F", "32", "-s", "1", name(&image)]);
    let file = Plain::open(&image);
    let mut boot = [0; 512];
    file.0.read_exact_at(&mut boot, 0).expect("read");
    let reserved = u64::from(u16::from_le_bytes([boot[14], boot[15]])) * 512;
    let length = u64::from(u32::from_le_bytes([boot[36], boot[37], boot[38], boot[39]])) * 512;
    // The root begins in cluster 2. 2 MiB are 4,096 clusters of 512 bytes.
    let mut chain: Vec<u8> = (3..5000_u32).flat_map(u32::to_le_bytes).collect();
    chain.extend(0x0FFF_FFFF_u32.to_le_bytes());
    for copy in 0..2 {
        file.0
            .write_all_at(&chain, reserved + copy * length + 8)
            .expect("written");
    }
    let findings = nodekiln::volume::fat::check::check(&file).expect("runs");
    assert!(
        findings.iter().any(|finding| finding.contains("65,536")),
        "{findings:#?}"
    );
}
