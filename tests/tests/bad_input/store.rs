//! A store whose objects were damaged since they came into it.

use std::fs;
use std::path::PathBuf;

use nodekiln_tests::command::Workshop;
use nodekiln_tests::damage::{bytes, patch, resize};
use nodekiln_tests::program::run;
use nodekiln_tests::small_base::text;

/// Objects of the store, the largest first.
fn objects(workshop: &Workshop) -> Vec<PathBuf> {
    let mut objects: Vec<(u64, PathBuf)> = walkdir::WalkDir::new(workshop.path("cache"))
        .into_iter()
        .map(|entry| entry.expect("can be walked"))
        .filter(|entry| {
            entry.file_type().is_file() && entry.path().to_string_lossy().contains("sha256")
        })
        .map(|entry| (entry.metadata().expect("is there").len(), entry.into_path()))
        .collect();
    objects.sort();
    objects.into_iter().rev().map(|(_, path)| path).collect()
}

#[test]
fn an_object_that_was_damaged_is_never_baked_and_comes_anew() {
    let workshop = Workshop::new();
    workshop.lock().succeeded();
    let all = objects(&workshop);
    assert_eq!(all.len(), 3, "base, kubelet, kubectl: {all:?}");
    for object in all {
        run("chmod", &["644", text(&object)]);
        let at = fs::metadata(&object).expect("is there").len() / 2;
        let flipped = bytes(&object, at, 1)[0] ^ 1;
        patch(&object, at, &[flipped]);
        workshop.refused_by(
            &["build", "--offline"],
            5,
            &["of the store: its sha256 is", "nodekiln fetch"],
        );
        workshop.nodekiln(&["fetch", "--offline"]).succeeded();
        workshop.build(&[]).succeeded();
        fs::remove_dir_all(workshop.path("out")).expect("removes");
    }
}

#[test]
fn an_object_that_was_cut_off_or_is_gone_is_named() {
    let workshop = Workshop::new();
    workshop.lock().succeeded();
    for object in objects(&workshop) {
        run("chmod", &["644", text(&object)]);
        let size = fs::metadata(&object).expect("is there").len();
        resize(&object, size / 2);
        workshop.refused_by(&["build", "--offline"], 5, &["nodekiln fetch"]);
        workshop.nodekiln(&["fetch", "--offline"]).succeeded();
        fs::remove_file(&object).expect("removes");
        workshop.refused_by(&["build", "--offline"], 5, &["nodekiln fetch"]);
        workshop.nodekiln(&["fetch", "--offline"]).succeeded();
    }
    workshop.build(&[]).succeeded();
}
