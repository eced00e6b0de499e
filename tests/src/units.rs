//! The units of a system and their states, as systemd lists them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::program::run;
use crate::small_base::text;

/// State of each unit file, by its name.
pub type Units = BTreeMap<String, String>;

/// The units of the root file system in the file `root`, which is mounted to read: as
/// `systemctl --root` lists them.
///
/// # Panics
/// When it cannot be mounted, or they cannot be listed.
pub fn of_root(root: &Path) -> Units {
    // A file system that was not left clean shows in the tests that check it. XFS would
    // replay its log, and refuses one that is mounted twice.
    const SCRIPT: &str = "options=ro,loop
        [ \"$(blkid -p -o value -s TYPE \"$0\")\" != xfs ] || options+=,norecovery,nouuid
        mount -o \"$options\" \"$0\" \"$1\"
        systemctl --root=\"$1\" list-unit-files --no-legend --no-pager --full";
    let point = tempfile::tempdir().expect("a folder");
    let private = ["--mount", "--propagation", "private", "bash", "-euc"];
    let arguments = [&private[..], &[SCRIPT, text(root), text(point.path())]].concat();
    let units = of_list(&run("unshare", &arguments));
    assert!(units.contains_key("basic.target"), "{units:?}");
    units
}

/// The units of a list by `systemctl list-unit-files`.
///
/// # Panics
/// When it is no such list.
pub fn of_list(list: &str) -> Units {
    list.lines()
        .map(|line| {
            let mut words = line.split_whitespace();
            let pair = words.next().zip(words.next());
            let (name, state) = pair.unwrap_or_else(|| panic!("no unit and state: {line}"));
            (name.to_owned(), state.to_owned())
        })
        .collect()
}

/// What differs: name, state before, state after; `-` where there is none.
pub fn differences(before: &Units, after: &Units) -> Vec<String> {
    let state = |units: &Units, name: &str| units.get(name).map_or("-", String::as_str).to_owned();
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| format!("{name} {} {}", state(before, name), state(after, name)))
        .collect()
}
