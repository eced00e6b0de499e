//! Policies of images in memory.

use std::collections::BTreeMap;

use super::*;
use crate::Class;
use crate::os::Image;
use crate::plan::Target;
use crate::volume::Volume;
use crate::volume::model::MemoryVolume;

const FOLDER: &str = "/etc/selinux/default/contexts/files";

/// An image with these files below `/etc/selinux`.
fn image(files: &[(&str, &str)]) -> Image {
    let volume = files
        .iter()
        .fold(MemoryVolume::new(), |volume, (path, text)| {
            volume
                .with_file(&path.replace("FILES", FOLDER), text)
                .expect("builds")
        });
    let root: Box<dyn Volume> = Box::new(volume);
    Image::new(BTreeMap::from([(Target::Root, root)])).expect("has a root")
}

const ENFORCING: (&str, &str) = (
    "/etc/selinux/config",
    "SELINUX=enforcing\nSELINUXTYPE=default\n",
);

fn policy(files: &[(&str, &str)]) -> Policy {
    Policy::read(&mut image(&[&[ENFORCING], files].concat()))
        .expect("reads")
        .expect("has one")
}

fn contexts(text: &str) -> FileContexts {
    let mut contexts = FileContexts::new();
    contexts
        .add("file_contexts", text.as_bytes())
        .expect("reads");
    contexts.sort();
    contexts
}

/// The type of a path's label.
fn type_of(text: &str, path: &str, kind: FileType) -> Option<String> {
    contexts(text).label(path.as_bytes(), kind).map(|label| {
        let mut parts = label.split(':');
        parts.nth(2).expect("three parts").to_owned()
    })
}

fn file(text: &str, path: &str) -> Option<String> {
    type_of(text, path, FileType::File)
}

#[test]
fn the_last_line_that_fits_counts() {
    let text = "/a(/.*)?\tu:r:one_t:s0\n/a/b.*\tu:r:two_t:s0\n";
    assert_eq!(file(text, "/a/bc").as_deref(), Some("two_t"));
    assert_eq!(file(text, "/a/c").as_deref(), Some("one_t"));
    let text = "/a/b.*\tu:r:two_t:s0\n/a(/.*)?\tu:r:one_t:s0\n";
    assert_eq!(file(text, "/a/bc").as_deref(), Some("one_t"));
}

#[test]
fn a_path_without_expressions_counts_more_than_any_with() {
    let text = "/a/b\tu:r:exact_t:s0\n/a/.*\tu:r:any_t:s0\n/a/b\\.c\tu:r:dot_t:s0\n/a/b.*\tu:r:late_t:s0\n";
    assert_eq!(file(text, "/a/b").as_deref(), Some("exact_t"));
    assert_eq!(file(text, "/a/b.c").as_deref(), Some("dot_t"));
    assert_eq!(file(text, "/a/bxc").as_deref(), Some("late_t"));
}

#[test]
fn of_two_same_paths_the_last_one_counts() {
    let text = "/a/b\tu:r:one_t:s0\n/a/b\tu:r:two_t:s0\n/x.\tu:r:y_t:s0\n";
    assert_eq!(file(text, "/a/b").as_deref(), Some("two_t"));
}

#[test]
fn kinds_are_told_apart() {
    let text = "/d/.*\tu:r:any_t:s0\n/d/.*\t--\tu:r:file_t:s0\n/d/.*\t-d\tu:r:dir_t:s0\n\
                /d/.*\t-l\tu:r:link_t:s0\n/d/.*\t-c\tu:r:char_t:s0\n/d/.*\t-b\tu:r:block_t:s0\n\
                /d/.*\t-p\tu:r:pipe_t:s0\n/d/.*\t-s\tu:r:sock_t:s0\n/d/x\t-d\tu:r:x_t:s0\n";
    let types = [
        "file_t", "dir_t", "link_t", "char_t", "block_t", "pipe_t", "sock_t",
    ];
    for (kind, wanted) in FileType::ALL.into_iter().zip(types) {
        assert_eq!(type_of(text, "/d/a", kind).as_deref(), Some(wanted));
    }
    assert_eq!(file(text, "/d/x").as_deref(), Some("file_t"));
    assert_eq!(
        type_of(text, "/d/x", FileType::Directory).as_deref(),
        Some("x_t")
    );
}

#[test]
fn none_is_no_label_and_ends_the_search() {
    let text = "/.*\tu:r:any_t:s0\n/a/.*\t<<none>>\n";
    assert_eq!(file(text, "/a/b"), None);
    assert_eq!(file(text, "/b").as_deref(), Some("any_t"));
    assert_eq!(file("/a\tu:r:t_t:s0\n", "/b"), None);
}

#[test]
fn a_first_component_is_taken_literally() {
    // Without a second slash there is no first component to compare.
    let text = "/usr/.*\tu:r:in_t:s0\n/usr(/.*)?\tu:r:whole_t:s0\n/[^/]+\tu:r:top_t:s0\n";
    assert_eq!(file(text, "/usr").as_deref(), Some("top_t"));
    assert_eq!(file(text, "/usr/x").as_deref(), Some("whole_t"));
    // libselinux compares it with its backslash: such a line fits nothing.
    assert_eq!(file("/a\\-b/c\tu:r:t_t:s0\n", "/a-b/c"), None);
    assert_eq!(
        file("/a\\.b/c\tu:r:t_t:s0\n", "/a.b/c").as_deref(),
        Some("t_t")
    );
}

#[test]
fn lines_are_split_as_libselinux_does() {
    let text =
        "\n  # comment\n\t/a  \t --   u:r:t_t:s0   more words\r\n/b u:r:t_t\n/c u:r:t_t:s0:c0.c3";
    let contexts = contexts(text);
    let label = |path: &str| contexts.label(path.as_bytes(), FileType::File);
    assert_eq!(label("/a"), Some("u:r:t_t:s0"));
    assert_eq!(label("/b"), Some("u:r:t_t"));
    assert_eq!(label("/c"), Some("u:r:t_t:s0:c0.c3"));
}

#[test]
fn damage_is_told_with_file_and_line() {
    for (line, says) in [
        ("/a", "it has a path and no label"),
        ("/a -x u:r:t_t:s0", "'-x' is no kind of files"),
        (
            "/a u:r:t_t:s0 u:r:t_t:s0",
            "'u:r:t_t:s0' is no kind of files",
        ),
        ("/a( u:r:t_t:s0", "'/a(': a group is not closed"),
        ("/b/a( u:r:t_t:s0", "'/b/a(': a group is not closed"),
        ("/a u:r", "'u:r' is no label"),
        ("/a u:r::s0", "'u:r::s0' is no label"),
        ("/a u:r:t_t:", "'u:r:t_t:' is no label"),
        ("/ä u:r:t_t:s0", "is not plain ASCII"),
        ("/a u:r:t\u{7}:s0", "is not plain ASCII"),
    ] {
        let text = format!("# policy\n/etc u:r:etc_t:s0\n{line}\n");
        let error =
            Policy::read(&mut image(&[ENFORCING, ("FILES/file_contexts", &text)])).expect_err(line);
        let text = error.to_string();
        assert_eq!(error.class(), Class::Input);
        assert!(
            text.contains(&format!("{FOLDER}/file_contexts of the image, line 3: ")),
            "{text}"
        );
        assert!(text.contains(says), "{line}: {text}");
        assert!(error.hint_text().is_some());
    }
}

#[test]
fn damage_of_another_file_names_that_file() {
    let files = [
        ENFORCING,
        ("FILES/file_contexts", "/a u:r:t_t:s0\n"),
        ("FILES/file_contexts.local", "broken\n"),
    ];
    let error = Policy::read(&mut image(&files)).expect_err("damaged");
    assert!(
        error
            .to_string()
            .contains("file_contexts.local of the image, line 1"),
        "{error}"
    );
}

#[test]
fn an_image_without_selinux_has_no_labels() {
    for files in [
        &[][..],
        &[(
            "/etc/selinux/config",
            "SELINUX=disabled\nSELINUXTYPE=default\n",
        )],
        &[(
            "/etc/selinux/config",
            "SELINUX=permissive\nSELINUXTYPE=default\n",
        )],
        &[("FILES/file_contexts", "/a u:r:t_t:s0\n")],
    ] {
        assert!(Policy::read(&mut image(files)).expect("reads").is_none());
    }
}

#[test]
fn a_policy_that_is_absent_where_it_is_enforced_is_an_error() {
    let error = Policy::read(&mut image(&[ENFORCING])).expect_err("absent");
    assert_eq!(error.class(), Class::Input);
    assert!(
        error.to_string().contains(&format!(
            "says enforcing, and {FOLDER}/file_contexts is not there"
        )),
        "{error}"
    );
    let files = [ENFORCING, ("FILES/file_contexts", "# nothing\n")];
    let error = Policy::read(&mut image(&files)).expect_err("empty");
    assert_eq!(error.class(), Class::Input);
    let files = [ENFORCING, ("FILES/file_contexts.bin", "x")];
    let error = Policy::read(&mut image(&files)).expect_err("compiled alone");
    assert_eq!(error.class(), Class::Unsupported);
}

#[test]
fn the_policys_name_leads_nowhere_else() {
    for name in ["../default", "..", "", "a/b"] {
        let config = format!("SELINUX=enforcing\nSELINUXTYPE={name}\n");
        let error = Policy::read(&mut image(&[("/etc/selinux/config", &config)]))
            .expect_err("no name of a folder");
        assert!(error.to_string().contains("/etc/selinux/config"), "{error}");
    }
}

#[test]
fn the_administrators_lines_count_most() {
    let policy = policy(&[
        (
            "FILES/file_contexts",
            "/home/u/.* u:r:base_t:s0\n/srv/x u:r:exact_t:s0\n",
        ),
        (
            "FILES/file_contexts.homedirs",
            "/home/[^/]+/.* u:r:home_t:s0\n/srv/.* u:r:home_t:s0\n",
        ),
        ("FILES/file_contexts.local", "/home/u/a.* u:r:local_t:s0\n"),
        ("FILES/file_contexts.subs", "/data /srv\n"),
        ("FILES/file_contexts.subs_dist", "/people /home\n"),
    ]);
    let label = |path: &str| policy.label(&fixed(path), FileType::File);
    assert_eq!(policy.name(), "default");
    assert_eq!(label("/home/u/b"), Some("u:r:home_t:s0"));
    assert_eq!(label("/home/u/ab"), Some("u:r:local_t:s0"));
    assert_eq!(label("/people/u/ab"), Some("u:r:local_t:s0"));
    assert_eq!(label("/srv/x"), Some("u:r:exact_t:s0"));
    assert_eq!(label("/data/x"), Some("u:r:exact_t:s0"));
    assert_eq!(
        policy.attribute(&fixed("/data/y"), FileType::File),
        Some(b"u:r:home_t:s0\0".to_vec())
    );
}

#[test]
fn too_many_lines_are_refused() {
    let text = "/a u:r:t_t:s0\n".repeat((1 << 15) + 1);
    let error = FileContexts::new()
        .add("file_contexts", text.as_bytes())
        .expect_err("too many");
    assert!(error.to_string().contains("line 32769"), "{error}");
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let text = "#".repeat((8 << 20) + 1);
    let error = Policy::read(&mut image(&[ENFORCING, ("FILES/file_contexts", &text)]))
        .expect_err("too large");
    assert!(error.to_string().contains("8388609 bytes"), "{error}");
}

#[test]
fn the_files_that_say_it_are_known() {
    let found = sources(&mut image(&[ENFORCING])).expect("reads");
    let names: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(names[0], "/etc/selinux/config");
    assert_eq!(names.len(), 6);
    assert!(
        names[1..].iter().all(|name| name.starts_with(FOLDER)),
        "{names:?}"
    );
}

/// Replays the seeds of the fuzz target and mutations of them.
#[test]
fn survives_the_fuzz_corpus_and_its_mutations() {
    crate::seeds::replay("file_contexts", 300, replay);
}
