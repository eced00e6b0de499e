//! Opening a base image: what it is, is told by its content, never by its name.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;

use super::{Storage, qcow2, raw::RawFile};
use crate::error::{Context as _, Error, Result};

/// Smallest disk that holds a GPT: MBR, two headers, two tables of 16 KiB; in
/// bytes.
const SMALLEST: u64 = (1 + 2 + 2 * 32) * 512;

/// How to open a base image.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenOptions {
    /// Whether a qcow2 image may read from another file that it names.
    pub allow_backing_file: bool,
}

/// The format of an image file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The bytes of the disk.
    Raw,
    /// QEMU's copy-on-write format, version 2 or 3.
    Qcow2,
}

/// An open base image; it is never written.
#[derive(Debug)]
pub struct BaseImage {
    /// The disk.
    pub storage: Arc<dyn Storage>,
    /// The format of the file.
    pub format: Format,
    /// Size of the file in bytes.
    pub file_size: u64,
    /// Size of the disk in bytes.
    pub virtual_size: u64,
}

/// Opens the image at `path` for reading.
///
/// # Errors
/// [`crate::Class::Input`] for what is no image, or a damaged one;
/// [`crate::Class::Unsupported`] for other formats and for features of qcow2 that
/// are not supported, a backing file among them unless it is allowed;
/// [`crate::Class::Environment`] when it cannot be read.
pub fn open_base(path: &Path, options: &OpenOptions) -> Result<BaseImage> {
    let doing = || format!("open the image '{}'", path.display());
    let file = open_file(path).doing(doing)?;
    let file_size = file.metadata().doing(doing)?.len();
    let (storage, format): (Arc<dyn Storage>, Format) =
        match probe(&file, file_size).doing(doing)? {
            Format::Qcow2 => (
                Arc::new(qcow2::Qcow2::open(file, path, *options).doing(doing)?),
                Format::Qcow2,
            ),
            Format::Raw => {
                check_raw_size(file_size).doing(doing)?;
                (
                    Arc::new(RawFile::read_only(file).doing(doing)?),
                    Format::Raw,
                )
            }
        };
    Ok(BaseImage {
        virtual_size: storage.size(),
        storage,
        format,
        file_size,
    })
}

/// Opens a regular file for reading; never waits, as opening a pipe would.
pub(super) fn open_file(path: &Path) -> Result<File> {
    let file = File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(path)
        .doing(|| "open the file".to_owned())?;
    let kind = file
        .metadata()
        .doing(|| "look at the file".to_owned())?
        .file_type();
    if kind.is_file() {
        return Ok(file);
    }
    let (what, hint) = if kind.is_dir() {
        ("it is a folder", "name the image file in it")
    } else if kind.is_block_device() {
        (
            "it is a device",
            "copy it to a file first: dd if=DEVICE of=base.raw bs=1M conv=sparse",
        )
    } else {
        ("it is not a regular file", "name an image file")
    };
    Err(Error::input(what).hint(hint))
}

/// Tells the format, and refuses those that are known but not supported.
fn probe(file: &File, size: u64) -> Result<Format> {
    if size == 0 {
        return Err(Error::input("the file is empty")
            .hint("was its download interrupted? fetch it again and compare the checksum"));
    }
    let begin = peek(file, 0).doing(|| "read its begin".to_owned())?;
    if begin.starts_with(&qcow2::MAGIC) {
        return Ok(Format::Qcow2);
    }
    if let Some((_, name, hint)) = FOREIGN.iter().find(|(magic, ..)| begin.starts_with(magic)) {
        return Err(Error::unsupported(format!("it is {name}")).hint(*hint));
    }
    // A disk that also boots as a CD has both; it is taken as a disk.
    let iso = peek(file, 0x8001).doing(|| "read it".to_owned())?;
    if iso.starts_with(b"CD001") && &begin[512..520] != b"EFI PART" {
        return Err(
            Error::unsupported("it is an ISO image, an installer perhaps")
                .hint("use the cloud or disk image of the same distribution"),
        );
    }
    Ok(Format::Raw)
}

const CONVERT: &str = "convert it: qemu-img convert -O qcow2 IMAGE base.qcow2";

/// Begin of a file, what that is, what to do.
const FOREIGN: [(&[u8], &str, &str); 12] = [
    (b"QFI\xfa", "an old QEMU image", CONVERT),
    (b"QED\0", "a QED image", CONVERT),
    (b"KDMV", "a VMDK image", CONVERT),
    (b"# Disk DescriptorFile", "a VMDK descriptor", CONVERT),
    (b"vhdxfile", "a VHDX image", CONVERT),
    (b"conectix", "a VHD image", CONVERT),
    (
        b"<<< Oracle VM VirtualBox Disk Image >>>",
        "a VDI image",
        CONVERT,
    ),
    (
        b"\x1f\x8b",
        "compressed with gzip",
        "unpack it: gunzip IMAGE",
    ),
    (b"\xfd7zXZ\0", "compressed with xz", "unpack it: unxz IMAGE"),
    (
        b"\x28\xb5\x2f\xfd",
        "compressed with zstd",
        "unpack it: unzstd IMAGE",
    ),
    (b"BZh", "compressed with bzip2", "unpack it: bunzip2 IMAGE"),
    (b"PK\x03\x04", "a ZIP archive", "unpack it: unzip IMAGE"),
];

/// The first KiB from `offset`, with zeros past the end.
fn peek(file: &File, offset: u64) -> io::Result<[u8; 1024]> {
    let mut bytes = [0; 1024];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

fn check_raw_size(size: u64) -> Result<()> {
    const HINT: &str = "is this a disk image, and whole? compare its size and checksum with the \
                        publisher's; `file IMAGE` tells what it is";
    if size < SMALLEST {
        Err(Error::input(format!("{size} bytes are too few for a disk")).hint(HINT))
    } else if !size.is_multiple_of(512) {
        Err(Error::input(format!(
            "its size of {size} bytes is not a multiple of 512, so it is no disk or was cut off"
        ))
        .hint(HINT))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;

    fn open(content: &[u8]) -> Result<BaseImage> {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        file.as_file().write_all_at(content, 0).expect("write");
        open_base(file.path(), &OpenOptions::default())
    }

    #[test]
    fn refuses_what_is_no_image() {
        let text = "these are words\n".repeat(5000);
        for content in [&b""[..], b"short", &[0; 4096], &text.as_bytes()[..70_001]] {
            let error = open(content).expect_err("refused");
            let root = std::error::Error::source(&error).expect("a cause");
            assert_eq!(error.class(), Class::Input, "{root}");
            assert!(error.hint_text().is_some(), "{root}");
        }
    }

    #[test]
    fn names_formats_that_it_does_not_take() {
        for (magic, name, _) in FOREIGN {
            let mut content = magic.to_vec();
            content.resize(100_000, 0);
            let error = open(&content).expect_err("refused");
            assert_eq!(error.class(), Class::Unsupported);
            let cause = std::error::Error::source(&error)
                .expect("a cause")
                .to_string();
            assert!(cause.contains(name), "{cause}");
        }
    }

    #[test]
    fn refuses_folders_and_pipes_without_waiting() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .expect("make a pipe");
        for path in [folder.path(), &pipe] {
            let error = open_base(path, &OpenOptions::default()).expect_err("refused");
            assert_eq!(error.class(), Class::Input);
        }
        let absent = open_base(&folder.path().join("absent"), &OpenOptions::default());
        assert_eq!(absent.expect_err("absent").class(), Class::Input);
    }

    #[test]
    fn takes_any_disk_as_raw_and_never_writes_it() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        file.as_file().set_len(1 << 20).expect("grow");
        let base = open_base(file.path(), &OpenOptions::default()).expect("opens");
        assert_eq!((base.format, base.virtual_size), (Format::Raw, 1 << 20));
        assert!(base.storage.write_at(b"x", 0).is_err());
    }
}
