//! Which kubelet is baked: the version that its file of versions may name.
//!
//! A kubelet from upstream's release folder has the version of that folder. Any
//! other, a local file above all, is asked itself: Go programs carry the version of
//! their main module or the linker's settings, and every kubelet prints a version
//! that stands in it as text.

use std::io::Read;

use crate::error::{Context as _, Result};
use crate::lock::model::{LockedProfile, Origin};
use crate::profile::model::ComponentName;
use crate::store::Store;

/// Bytes of a program that are looked at; a kubelet has about 60 MiB.
const LIMIT: u64 = 512 << 20;
const PIECE: usize = 1 << 20;
/// What stands before the version in a Go program: the linker's setting
/// (`k8s.io/component-base/version.gitVersion`), the main module.
const MARKERS: [&[u8]; 2] = [b"gitVersion=v", b"mod\tk8s.io/kubernetes\tv"];
/// Longest version, in bytes.
const LONGEST: usize = 64;

/// The version of the kubelet that `locked` pins, without its `v`; `None` when it
/// is not known, or none is baked. `wish` is the version of the profile.
///
/// # Errors
/// [`crate::Class::Dependency`] when the store has it damaged.
pub fn find(store: &Store, locked: &LockedProfile, wish: &str) -> Result<Option<String>> {
    let Some(component) = locked.components.get(&ComponentName::Kubelet) else {
        return Ok(None);
    };
    if let Origin::Url(url) = &component.file.origin
        && url
            .split('/')
            .any(|part| part.strip_prefix('v') == Some(wish))
    {
        return Ok(Some(wish.to_owned()));
    }
    let program = component
        .members
        .values()
        .find(|member| member.destination.file_name() == Some(b"kubelet"));
    let Some(program) = program.filter(|program| store.contains(&program.sha256)) else {
        return Ok(None);
    };
    let file = store.open_object(&program.sha256)?;
    search(file.take(LIMIT), wish).doing(|| "look for the version of the kubelet".to_owned())
}

/// Searches a program for its version.
fn search(mut program: impl Read, wish: &str) -> std::io::Result<Option<String>> {
    let wished = format!("v{wish}");
    let keep = LONGEST + MARKERS[1].len() + 2;
    let mut window: Vec<u8> = Vec::with_capacity(PIECE + keep);
    let mut is_wished = false;
    loop {
        let before = window.len();
        let read = program
            .by_ref()
            .take(PIECE as u64)
            .read_to_end(&mut window)?;
        for marker in MARKERS {
            for at in positions(&window, marker) {
                if let Some(version) = version_at(&window[at + marker.len()..]) {
                    return Ok(Some(version));
                }
            }
        }
        is_wished |=
            positions(&window, wished.as_bytes()).any(|at| is_word(&window, at, wished.len()));
        if read == 0 || window.len() == before {
            return Ok(is_wished.then(|| wish.to_owned()));
        }
        // What a marker at the end lacks comes with the next piece.
        window.drain(..window.len().saturating_sub(keep));
    }
}

fn positions<'a>(bytes: &'a [u8], wanted: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let first = wanted[0];
    bytes
        .windows(wanted.len())
        .enumerate()
        .filter(move |(_, window)| window[0] == first && *window == wanted)
        .map(|(at, _)| at)
}

/// Three numbers and what may follow them.
fn version_at(bytes: &[u8]) -> Option<String> {
    let length = bytes
        .iter()
        .take(LONGEST)
        .position(|byte| !(byte.is_ascii_alphanumeric() || b".+-".contains(byte)))?;
    let text = std::str::from_utf8(&bytes[..length]).ok()?;
    let core = text.split(['-', '+']).next()?;
    let numbers: Vec<&str> = core.split('.').collect();
    let is_number =
        |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (numbers.len() == 3 && numbers.iter().all(is_number)).then(|| text.to_owned())
}

/// Whether no digit or dot goes on with the version in either direction.
fn is_word(bytes: &[u8], at: usize, length: usize) -> bool {
    let goes_on =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_digit() || *byte == b'.');
    !goes_on(at.checked_sub(1).and_then(|before| bytes.get(before)))
        && !goes_on(bytes.get(at + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &[u8], wish: &str) -> Option<String> {
        let alone = search(text_only(text).as_slice(), wish).expect("memory");
        // Across the border of a piece it is the same.
        for padding in [PIECE - 10, PIECE - 40, PIECE + 5] {
            let mut program = vec![0x5A; padding];
            program.extend(text_only(text));
            program.extend(vec![0; 3000]);
            assert_eq!(
                search(&program[..], wish).expect("memory"),
                alone,
                "{padding}"
            );
        }
        alone
    }

    fn text_only(text: &[u8]) -> Vec<u8> {
        [&[0][..], text, &[0]].concat()
    }

    #[test]
    fn a_program_tells_its_version_by_module_or_linker() {
        let module =
            b"path\tk8s.io/kubernetes/cmd/kubelet\nmod\tk8s.io/kubernetes\tv1.33.2\th1:x\n";
        assert_eq!(found(module, "1.34.4").as_deref(), Some("1.33.2"));
        let linker = b"-X k8s.io/component-base/version.gitVersion=v1.32.1-eks-12a -X y";
        assert_eq!(found(linker, "1.34.4").as_deref(), Some("1.32.1-eks-12a"));
    }

    #[test]
    fn a_version_in_the_text_of_the_program_must_be_the_wished_one() {
        assert_eq!(found(b"xv1.34.4y", "1.34.4").as_deref(), Some("1.34.4"));
        for other in [
            &b"v1.34.40"[..],
            b"1v1.34.4.1",
            b"v1.34.5",
            b"mod\tk8s.io/kubernetes\t(devel)",
        ] {
            assert_eq!(found(other, "1.34.4"), None, "{}", other.escape_ascii());
        }
    }
}
