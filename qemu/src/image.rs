//! The image that is booted, and the overlay that takes all writes.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::{machine, process};

/// Formats that are booted. QEMU is always told which it is: what it guesses
/// from the content of a raw image is up to the guest that wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageFormat {
    /// A disk as it is.
    Raw,
    /// QEMU's own, version 2 or 3.
    Qcow2,
}

impl ImageFormat {
    fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// First bytes of formats that would boot as a disk of garbage if they were
/// taken as raw.
const OTHER_FORMATS: &[(&[u8], &str)] = &[
    (b"KDMV", "a VMDK image"),
    (b"# Disk DescriptorFile", "a VMDK descriptor"),
    (b"vhdxfile", "a VHDX image"),
    (b"conectix", "a VHD image"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"\xfd7zXZ\0", "compressed with xz"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"BZh", "compressed with bzip2"),
    (b"PK\x03\x04", "a zip archive"),
];

/// Finds out what an image is, from its first bytes. A qcow2 that refers to
/// other files is refused: they would be read with our rights.
pub(crate) fn examine(image: &Path) -> Result<ImageFormat> {
    let read = |error| Error::io(format!("read {}", image.display()), error);
    let mut file = File::open(image).map_err(read)?;
    let found = file.metadata().map_err(read)?;
    if found.is_dir() {
        return Err(Error::image(image, "it is a folder"));
    }
    let mut head = Vec::new();
    (&mut file).take(512).read_to_end(&mut head).map_err(read)?;
    if head.starts_with(b"QFI\xfb") {
        return examine_qcow2(image, &head);
    }
    if let Some((_, what)) = OTHER_FORMATS
        .iter()
        .find(|(magic, _)| head.starts_with(magic))
    {
        return Err(Error::UnsupportedImage {
            image: image.to_owned(),
            what: format!("it is {what}"),
            hint: "only raw and qcow2 images are booted; convert or unpack it first".to_owned(),
        });
    }
    if head.len() < 512 {
        return Err(Error::image(
            image,
            format!("it has {} bytes, which is no disk", head.len()),
        ));
    }
    Ok(ImageFormat::Raw)
}

/// Header fields by `docs/interop/qcow2.txt` of QEMU, all big-endian.
fn examine_qcow2(image: &Path, head: &[u8]) -> Result<ImageFormat> {
    let number = |offset: usize| -> Option<u64> {
        let bytes = head.get(offset..offset + 8)?;
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    };
    let version = head
        .get(4..8)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u32::from_be_bytes);
    let (Some(version @ 2..=3), Some(backing)) = (version, number(8)) else {
        return Err(Error::image(image, "it is a truncated or unknown qcow2"));
    };
    let refers = |what: &str| Error::UnsupportedImage {
        image: image.to_owned(),
        what: format!("it is a qcow2 that refers to {what}"),
        hint: "make one file of it: qemu-img convert -O qcow2 IMAGE WHOLE.qcow2".to_owned(),
    };
    if backing != 0 {
        return Err(refers("a backing file"));
    }
    let incompatible = if version == 3 {
        number(72).unwrap_or(0)
    } else {
        0
    };
    if incompatible & 4 != 0 {
        return Err(refers("an external data file"));
    }
    Ok(ImageFormat::Qcow2)
}

/// Makes an overlay at `overlay`: all that the guest writes goes there. One that lies
/// there already is continued, if it is an overlay of this image.
pub(crate) async fn overlay(image: &Path, overlay: &Path, size: Option<u64>) -> Result<PathBuf> {
    let format = examine(image)?;
    let base = image
        .canonicalize()
        .map_err(|error| Error::io(format!("find {}", image.display()), error))?;
    // The place of the file is made by us: qemu-img would give it any mode.
    let made = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(overlay);
    match made {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            lies_over(overlay, &base)?;
            return absolute(overlay);
        }
        Err(error) => return Err(Error::io(format!("make {}", overlay.display()), error)),
    }
    let mut arguments: Vec<OsString> = ["create", "-q", "-f", "qcow2", "-F", format.name(), "-b"]
        .map(OsString::from)
        .into();
    arguments.push(base.into());
    arguments.push(overlay.into());
    if let Some(size) = size {
        arguments.push(size.to_string().into());
    }
    let created = process::output(&machine::find_qemu_img()?, &arguments).await;
    if let Err(error) = created {
        // What is left is no overlay, and nothing for the next boot to continue.
        std::fs::remove_file(overlay).ok();
        return Err(error);
    }
    absolute(overlay)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    path.canonicalize()
        .map_err(|error| Error::io(format!("find {}", path.display()), error))
}

/// Checks that a kept overlay is one of the image `base`: QEMU reads with our rights
/// whatever file it names.
fn lies_over(overlay: &Path, base: &Path) -> Result<()> {
    let read = |error| Error::io(format!("read {}", overlay.display()), error);
    let mut file = File::open(overlay).map_err(read)?;
    let mut head = Vec::new();
    (&mut file).take(512).read_to_end(&mut head).map_err(read)?;
    let number = |offset: usize| -> Option<u64> {
        let bytes = head.get(offset..offset + 8)?;
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    };
    let version = head.get(4..8) == Some(&[0, 0, 0, 3]);
    let has_data_file = number(72).is_none_or(|incompatible| incompatible & 4 != 0);
    if !head.starts_with(b"QFI\xfb") || !version || has_data_file {
        return Err(Error::UnsupportedImage {
            image: overlay.to_owned(),
            what: "it is no overlay of an earlier boot".to_owned(),
            hint: "name a file that does not exist to begin a new one".to_owned(),
        });
    }
    // Of two numbers of 32 bits, the upper is the length of the name.
    let length = number(16).unwrap_or(0) >> 32;
    let mut name = Vec::new();
    file.seek(SeekFrom::Start(number(8).unwrap_or(0)))
        .and_then(|_| file.take(length.min(1023)).read_to_end(&mut name))
        .map_err(read)?;
    if name == base.as_os_str().as_encoded_bytes() {
        return Ok(());
    }
    Err(Error::UnsupportedImage {
        image: overlay.to_owned(),
        what: format!(
            "it lies over '{}'",
            String::from_utf8_lossy(&name).escape_debug()
        ),
        hint: format!(
            "boot the image it lies over, or name a file that does not exist to begin a new one \
             over {}",
            base.display()
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn examined(bytes: &[u8]) -> Result<ImageFormat> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), bytes).expect("written");
        examine(file.path())
    }

    fn qcow2(version: u32, backing: u64, incompatible: u64) -> Vec<u8> {
        let mut head = vec![0; 512];
        head[..4].copy_from_slice(b"QFI\xfb");
        head[4..8].copy_from_slice(&version.to_be_bytes());
        head[8..16].copy_from_slice(&backing.to_be_bytes());
        head[72..80].copy_from_slice(&incompatible.to_be_bytes());
        head
    }

    #[test]
    fn tells_formats_apart() {
        assert_eq!(examined(&[0; 1024]).ok(), Some(ImageFormat::Raw));
        assert_eq!(examined(&qcow2(2, 0, 4)).ok(), Some(ImageFormat::Qcow2));
        assert_eq!(examined(&qcow2(3, 0, 0)).ok(), Some(ImageFormat::Qcow2));
    }

    #[test]
    fn refuses_what_is_no_disk_or_leads_elsewhere() {
        let kind = |bytes: &[u8]| examined(bytes).expect_err("refused").kind();
        assert_eq!(kind(b""), Kind::Input);
        assert_eq!(kind(b"hello"), Kind::Input);
        assert_eq!(kind(&qcow2(7, 0, 0)), Kind::Input);
        assert_eq!(kind(&qcow2(3, 0, 0)[..10]), Kind::Input);
        assert_eq!(kind(&qcow2(3, 104, 0)), Kind::Unsupported);
        assert_eq!(kind(&qcow2(3, 0, 4)), Kind::Unsupported);
        assert_eq!(kind(b"vhdxfile..."), Kind::Unsupported);
        assert_eq!(
            examine(Path::new("/no/such/image"))
                .expect_err("absent")
                .kind(),
            Kind::Input
        );
    }

    #[test]
    fn an_overlay_is_kept_private_and_continued_over_its_own_image_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for image in ["a.raw", "b.raw"] {
            std::fs::write(path(image), [0; 4096]).expect("written");
        }
        let made = |image: &str, size| {
            let (image, overlay) = (path(image), path("kept.qcow2"));
            process::on_own_thread(|| async move { super::overlay(&image, &overlay, size).await })
        };
        let kept = made("a.raw", Some(1 << 20)).expect("made");
        let mode = kept.metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let before = std::fs::read(&kept).expect("read");
        assert_eq!(made("a.raw", Some(2 << 20)).expect("continued"), kept);
        assert_eq!(std::fs::read(&kept).expect("read"), before);
        let error = made("b.raw", None).expect_err("refused");
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.to_string().contains("a.raw"), "{error}");
        std::fs::write(&kept, b"something of the user's").expect("written");
        let error = made("a.raw", None).expect_err("refused");
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(kept.exists(), "it is not ours to remove");
    }
}
