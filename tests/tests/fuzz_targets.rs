//! The fuzz targets, their corpora and the tests that replay them belong together.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect()
}

fn targets() -> BTreeSet<String> {
    names(&workspace().join("fuzz/fuzz_targets"))
}

/// All Rust source of the crates whose parsers are fuzzed.
fn sources() -> String {
    let folders = ["builder/src", "firstboot/src", "qemu/src"].map(|it| workspace().join(it));
    let entries = folders.iter().flat_map(walkdir::WalkDir::new);
    entries
        .map(|entry| entry.expect("an entry").into_path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| fs::read_to_string(path).expect("UTF-8"))
        .collect()
}

#[test]
fn every_target_has_seeds_that_a_plain_test_replays() {
    let sources = sources();
    for target in targets() {
        let corpus = workspace().join("fuzz/corpus").join(&target);
        assert!(!names(&corpus).is_empty(), "{target} has no seed");
        // The whole folder, so that what fuzzing finds is replayed once it lies there.
        let ways = [
            format!("replay(\"{target}\""),
            format!("/../fuzz/corpus/{target}\")"),
        ];
        assert!(
            ways.iter().any(|way| sources.contains(way)),
            "no test replays the corpus of {target}"
        );
    }
}

#[test]
fn no_corpus_is_without_a_target() {
    assert_eq!(names(&workspace().join("fuzz/corpus")), targets());
}

#[test]
fn every_target_is_built_and_described() {
    let read = |path: &str| fs::read_to_string(workspace().join(path)).expect("UTF-8");
    let manifest: toml::Table = read("fuzz/Cargo.toml").parse().expect("TOML");
    let built = manifest["bin"].as_array().expect("programs");
    let built = built
        .iter()
        .map(|it| it["name"].as_str().expect("a name").to_owned());
    assert_eq!(built.collect::<BTreeSet<_>>(), targets());
    let readme = read("fuzz/README.md");
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `"));
    let described = rows.filter_map(|row| row.split_once(" |"));
    let described = described.flat_map(|(names, _)| names.split(", "));
    let described = described.map(|name| name.trim_matches('`').to_owned());
    assert_eq!(described.collect::<BTreeSet<_>>(), targets());
}
