//! The last resort: prebuilt firmware from the network.
//!
//! The crate checks the download against the hash it carries, but it unpacks in
//! place and without a lock; so each download goes to a folder of its own, which
//! takes the final name when it is whole.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use ovmf_prebuilt::{Arch, FileType, Prebuilt, Source};

use super::{Firmware, Origin};
use crate::error::{Error, Result};
use crate::machine::Architecture;

/// The crate's HTTP client has no time limit of its own.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(120);

pub(super) fn fetch(cache: &Path, architecture: Architecture) -> Result<Firmware> {
    let folder = cache.join("firmware");
    let doing = |what: &str| format!("{what} {}", folder.display());
    std::fs::create_dir_all(&folder).map_err(|error| Error::io(doing("create"), error))?;
    let lock =
        File::create(folder.join("lock")).map_err(|error| Error::io(doing("write into"), error))?;
    lock.lock()
        .map_err(|error| Error::io(doing("lock"), error))?;

    let home = folder.join(Source::LATEST.tag);
    if let Some(found) = unpacked(&home, architecture) {
        return Ok(found);
    }
    let fresh = tempfile::Builder::new()
        .prefix("download-")
        .tempdir_in(&folder)
        .map_err(|error| Error::io(doing("write into"), error))?;
    download(&fresh.path().join("new"))?;
    match std::fs::remove_dir_all(&home) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io(format!("remove {}", home.display()), error));
        }
        _ => {}
    }
    std::fs::rename(fresh.path().join("new"), &home)
        .map_err(|error| Error::io(format!("create {}", home.display()), error))?;
    unpacked(&home, architecture).ok_or_else(|| Error::FirmwareDownload {
        reason: format!("the archive has none for {}", architecture.name()),
        wrong: true,
    })
}

fn unpacked(home: &Path, architecture: Architecture) -> Option<Firmware> {
    let arch = match architecture {
        Architecture::X86_64 => Arch::X64,
        Architecture::Aarch64 => Arch::Aarch64,
    };
    let file = |kind: FileType| {
        let path = home.join(arch.as_str()).join(kind.as_str());
        path.metadata()
            .is_ok_and(|found| found.is_file() && found.len() > 0)
            .then_some(path)
    };
    Some(Firmware::Uefi {
        code: file(FileType::Code)?,
        vars: Some(file(FileType::Vars)?),
        origin: Origin::Prebuilt,
        system_management: false,
    })
}

fn download(target: &Path) -> Result<()> {
    let (sender, receiver) = mpsc::channel();
    let folder = target.to_owned();
    std::thread::Builder::new()
        .name("firmware".to_owned())
        .spawn(move || {
            let result = Prebuilt::fetch(Source::LATEST, folder).map(|_| ());
            // Nobody listens any more when the limit has passed.
            sender.send(result).ok();
        })
        .map_err(|error| Error::io("start a thread", error))?;
    let failed = |reason: String, wrong| Error::FirmwareDownload { reason, wrong };
    match receiver.recv_timeout(DOWNLOAD_LIMIT) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            use ovmf_prebuilt::Error as Cause;
            let wrong = matches!(
                error,
                Cause::HashMismatch { .. } | Cause::Decompress(_) | Cause::Extract(_)
            );
            let cause = std::error::Error::source(&error)
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            Err(failed(format!("{error}{cause}"), wrong))
        }
        Err(_) => Err(failed(
            format!("no answer within {} s", DOWNLOAD_LIMIT.as_secs()),
            false,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_downloaded_before_needs_no_network() {
        let cache = tempfile::tempdir().expect("a folder");
        let files = cache
            .path()
            .join("firmware")
            .join(Source::LATEST.tag)
            .join("x64");
        std::fs::create_dir_all(&files).expect("created");
        std::fs::write(files.join("code.fd"), "code").expect("written");
        std::fs::write(files.join("vars.fd"), "vars").expect("written");
        let found = fetch(cache.path(), Architecture::X86_64).expect("found");
        assert!(found.to_string().contains("prebuilt"), "{found}");
    }
}
