//! Overlays that contradict each other or the image, lead out, or cannot be read.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nodekiln_tests::command::Workshop;
use nodekiln_tests::program::run;
use nodekiln_tests::small_base::{MIB, ROOT_START, Shape, cut, text};

/// A workshop with the overlays `one` and `two`, and files in them.
fn workshop(files: &[(&str, &str)]) -> Workshop {
    let workshop = Workshop::new();
    lay(&workshop, files);
    workshop
}

fn lay(workshop: &Workshop, files: &[(&str, &str)]) {
    for name in ["one", "two"] {
        fs::create_dir_all(workshop.path(name)).expect("creates");
    }
    for (path, content) in files {
        let path = workshop.path(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("creates");
        fs::write(path, content).expect("writes");
    }
    workshop.write_profile(
        "base.raw",
        "  overlays: [one, two]\n  outputs: [{format: raw}]\n",
    );
}

#[test]
fn files_of_two_overlays_at_one_path_are_refused_with_both_named() {
    let workshop = workshop(&[("one/etc/motd", "one"), ("two/etc/motd", "two")]);
    workshop.refused(
        2,
        &["lay ./two/etc/motd", "overlay one and overlay two", "hint:"],
    );
}

#[test]
fn a_file_and_its_template_at_one_path_are_refused() {
    let workshop = workshop(&[("one/etc/motd", "one"), ("one/etc/motd.tmpl", "two")]);
    workshop.refused(
        2,
        &["/etc/motd", "one/etc/motd", "one/etc/motd.tmpl", "hint:"],
    );
}

#[test]
fn a_folder_over_a_file_and_a_file_over_a_folder_are_refused() {
    for (path, named, seen) in [
        ("one/etc/os-release/extra", "one/etc/os-release", "a file"),
        ("one/etc/ssh", "one/etc/ssh", "a folder"),
    ] {
        let workshop = workshop(&[(path, "content")]);
        let named = format!("lay ./{named}\n");
        workshop.refused(2, &[&named, &format!("the image has {seen}"), "hint:"]);
    }
    let workshop = workshop(&[("one/srv/thing", "file"), ("two/srv/thing/inner", "file")]);
    workshop.refused(2, &["lay ./two/srv/thing", "overlay one", "hint:"]);
}

#[test]
fn a_link_of_the_image_that_leads_out_ends_at_its_root() {
    let workshop = Workshop::with(&Shape::default(), |tree| {
        symlink("../../../../../../outside", tree.join("usr/escape")).expect("links");
        symlink("/etc", tree.join("usr/absolute")).expect("links");
        fs::create_dir(tree.join("outside")).expect("creates");
    });
    lay(
        &workshop,
        &[
            ("one/usr/escape/landed", "content"),
            ("one/usr/absolute/nodekiln-landed", "content"),
        ],
    );
    let built = workshop.built(&[]);
    for path in ["/outside", "/etc/nodekiln-landed"] {
        assert!(!Path::new(path).exists(), "{path} of this machine");
    }
    let root = workshop.path("root.ext4");
    cut(&built.join("small.raw"), ROOT_START, 48 * MIB, &root);
    for path in ["/outside/landed", "/etc/nodekiln-landed"] {
        let found = run("debugfs", &["-R", &format!("cat {path}"), text(&root)]);
        assert!(found.contains("content"), "{path}: {found}");
    }
}

#[test]
fn a_path_through_links_in_a_circle_is_refused() {
    let workshop = Workshop::with(&Shape::default(), |tree| {
        symlink("round", tree.join("usr/circle")).expect("links");
        symlink("circle", tree.join("usr/round")).expect("links");
    });
    lay(&workshop, &[("one/usr/circle/file", "content")]);
    workshop.refused(2, &["/usr/circle", "lay ./one/usr/circle"]);
}

#[test]
fn errors_of_templates_have_line_and_column() {
    for (template, place, words) in [
        (
            "first\nname {{ profile.name }\n",
            ":2:",
            "render the template",
        ),
        ("first\n\nsecond {{ unknown }}\n", ":3:11", "unknown"),
        ("{% if true %}\n", "motd.tmpl:", "render the template"),
        (
            "{% for a in range(100000000) %}{{ a }}{% endfor %}\n",
            ":1:",
            "render",
        ),
        ("a\n  {{ 'x' * 1000000000 }}\n", ":2:", "render"),
        ("{% include '/etc/passwd' %}\n", ":1:", "render"),
    ] {
        let workshop = workshop(&[("one/etc/motd.tmpl", template)]);
        let ran = workshop.refused(2, &["one/etc/motd.tmpl:", place, words]);
        assert!(!ran.stderr.contains("root:"), "{}", ran.stderr);
    }
}

#[test]
fn what_is_neither_file_folder_nor_link_is_refused() {
    let workshop = workshop(&[("one/etc/motd", "content")]);
    run("mkfifo", &[text(&workshop.path("one/etc/pipe"))]);
    workshop.refused(2, &["one/etc/pipe", "a device, pipe or socket", "hint:"]);
    fs::remove_file(workshop.path("one/etc/pipe")).expect("removes");
    run("chmod", &["4755", text(&workshop.path("one/etc/motd"))]);
    workshop.refused(2, &["one/etc/motd", "set-uid", "hint:"]);
}

#[test]
fn an_overlay_that_is_not_there_is_refused_with_what_there_is() {
    let workshop = Workshop::new();
    workshop.write_profile("base.raw", "  overlays: [comon]\n");
    workshop.refused(2, &["comon", "common", "hint:"]);
    workshop.write_profile("base.raw", "  overlays: [./absent]\n");
    workshop.refused(2, &["absent", "hint:"]);
}

#[test]
fn a_file_that_may_not_be_read_is_refused_by_its_mode() {
    let workshop = workshop(&[("one/etc/secret", "content")]);
    run("chown", &["-R", "nobody", text(workshop.folder())]);
    run("chmod", &["000", text(&workshop.path("one/etc/secret"))]);
    let copy = workshop.copy_of_command();
    let unprivileged = |verb: &str| {
        let mut command = workshop.as_nobody(&copy);
        command.args([verb, "--offline"]);
        command
    };
    let locked = unprivileged("lock").status().expect("setpriv is needed");
    assert!(locked.success());
    let words = ["one/etc/secret", "Permission denied", "hint:"];
    workshop.refused_run(unprivileged("build"), 4, &words);
}
