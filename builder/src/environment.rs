//! Every environment variable that means something to nodekiln, by name.
//!
//! Libraries below read some of them on their own: the terminal library
//! `NO_COLOR`, the standard library `TMPDIR`, the HTTP client the proxies
//! (`HTTPS_PROXY`, `NO_PROXY` and their lower-case forms).

use std::path::PathBuf;

/// Seconds since 1970 that every generated time stamp takes.
/// See <https://reproducible-builds.org/specs/source-date-epoch/>.
pub const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";
/// Where the store and other caches live (`$XDG_CACHE_HOME/nodekiln`).
pub const XDG_CACHE_HOME: &str = "XDG_CACHE_HOME";
/// Replaces the place of the store altogether.
pub const NODEKILN_CACHE: &str = "NODEKILN_CACHE";
/// The first-boot program to bake, instead of the one that came along.
pub const NODEKILN_FIRSTBOOT: &str = "NODEKILN_FIRSTBOOT";
/// The agent that edits file systems in a guest kernel, instead of the one that came along.
pub const NODEKILN_AGENT: &str = "NODEKILN_AGENT";
/// The guest kernel that edits file systems, user-mode Linux, instead of the one that is found.
pub const NODEKILN_UML_KERNEL: &str = "NODEKILN_UML_KERNEL";
/// The kernel of a distribution for the machine that edits them where user-mode Linux cannot;
/// for the same processor as this one.
pub const NODEKILN_VM_KERNEL: &str = "NODEKILN_VM_KERNEL";
/// No colours, whatever its value. See <https://no-color.org/>.
pub const NO_COLOR: &str = "NO_COLOR";
/// Plain lines instead of bars.
pub const CI: &str = "CI";
/// Where temporary files go that are not beside their final place.
pub const TMPDIR: &str = "TMPDIR";

/// The folder of caches, without creating it. `None` when neither a cache nor a
/// home folder is known.
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    set(NODEKILN_CACHE)
        .map(PathBuf::from)
        .or_else(|| set(XDG_CACHE_HOME).map(|folder| PathBuf::from(folder).join("nodekiln")))
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".cache/nodekiln")))
}

/// `SOURCE_DATE_EPOCH`, if it is set.
///
/// # Errors
/// [`crate::Class::Input`] when it is not a whole number of seconds.
pub fn source_date_epoch() -> crate::Result<Option<i64>> {
    let Some(value) = std::env::var_os(SOURCE_DATE_EPOCH) else {
        return Ok(None);
    };
    value
        .to_str()
        .and_then(|text| text.trim().parse::<i64>().ok())
        .filter(|seconds| *seconds >= 0)
        .map(Some)
        .ok_or_else(|| {
            crate::Error::input(format!(
                "{SOURCE_DATE_EPOCH} is '{}', not a number of seconds",
                value.to_string_lossy()
            ))
            .hint("unset it, or set it with: export SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)")
        })
}

/// The proxy variables as they are set, for programs that nodekiln starts: their
/// environment holds nothing else of its own.
pub fn proxies() -> Vec<(&'static str, std::ffi::OsString)> {
    const NAMES: [&str; 8] = [
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
    ];
    NAMES
        .into_iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)))
        .collect()
}
