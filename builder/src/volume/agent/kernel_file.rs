//! The file of a distribution's kernel: which processors it is for, and whether it has to be
//! unpacked before it can be started.
//!
//! Linux tells them apart in `Documentation/arch/x86/boot.rst` (`HdrS`),
//! `Documentation/arch/arm64/booting.rst` (`ARM\x64`) and
//! `drivers/firmware/efi/libstub/zboot-header.S` (`zimg`). A kernel for x86-64 unpacks
//! itself. For arm64 that is left to who starts it: Ubuntu has it as a gzip, Fedora in a
//! program for EFI ("zboot"), which QEMU takes from 8.0 on, and packed by gzip alone.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::Path;

use crate::error::{Context as _, Error, Result};
use crate::profile::model::Architecture;
use crate::store::compression::decompress;

/// Bytes of a kernel that tell what it is for.
const HEAD: u64 = 1024;
/// Largest kernel that is unpacked, in bytes, as in QEMU.
const LARGEST: u64 = 256 << 20;

/// What a file holds that is a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KernelFile {
    /// The processors that the kernel is for.
    pub architecture: Architecture,
    /// Whether it is for arm64 and has pages of 16 KiB, which not every such processor
    /// knows.
    pub has_pages_of_16_kib: bool,
    /// The bytes of the file that are the kernel in packed form.
    pub packed: Option<Range<u64>>,
}

impl KernelFile {
    /// What `path` holds; `None` for what is no kernel that is known here.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn look(path: &Path) -> io::Result<Option<Self>> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut head = Vec::new();
        file.by_ref().take(HEAD).read_to_end(&mut head)?;
        if let Some(found) = plain(&head) {
            return Ok(Some(found));
        }
        let area = zboot(&head).unwrap_or(0..size);
        if area.end > size {
            return Ok(None);
        }
        let mut inner = Vec::new();
        // What does not unpack is no kernel.
        let unpacked = unpack(file, &area)
            .and_then(|kernel| kernel.take(HEAD).read_to_end(&mut inner))
            .is_ok();
        let found = plain(&inner).filter(|file| file.architecture == Architecture::Arm64);
        Ok(found.filter(|_| unpacked).map(|file| Self {
            packed: Some(area),
            ..file
        }))
    }

    /// Writes what was packed in `from` to the file `to`.
    ///
    /// # Errors
    /// When one of them cannot be read or written.
    pub(super) fn unpack(&self, from: &Path, to: &Path) -> Result<()> {
        let Some(area) = &self.packed else {
            return Ok(());
        };
        File::open(from)
            .and_then(|file| unpack(file, area))
            .and_then(|mut kernel| io::copy(&mut kernel, &mut File::create(to)?))
            .doing(|| format!("unpack the kernel {}", from.display()))?;
        Ok(())
    }
}

/// The kernel at `path`, which has to be for `wanted`.
///
/// # Errors
/// [`crate::Class::Environment`] when it is none, or is for another.
pub(super) fn judge(path: &Path, wanted: Architecture) -> Result<KernelFile> {
    let doing = "edit file systems in a machine";
    let shown = path.display();
    let found = KernelFile::look(path).map_err(|error| {
        Error::environment(format!("{doing}: the kernel {shown} cannot be read")).caused_by(error)
    })?;
    let hint = format!(
        "name a kernel of a distribution for {} with {}",
        wanted.name(),
        crate::environment::NODEKILN_VM_KERNEL
    );
    match found {
        Some(file) if file.architecture == wanted => Ok(file),
        Some(file) => Err(Error::environment(format!(
            "{doing}: the kernel {shown} is for {}, the machine is one of {}",
            file.architecture.name(),
            wanted.name()
        ))
        .hint(hint)),
        None => Err(Error::environment(format!(
            "{doing}: {shown} is no Linux kernel for x86_64 or arm64 that is known"
        ))
        .hint(hint)),
    }
}

/// A kernel that is not packed, by its first bytes.
fn plain(head: &[u8]) -> Option<KernelFile> {
    let kernel = |architecture, has_pages_of_16_kib| KernelFile {
        architecture,
        has_pages_of_16_kib,
        packed: None,
    };
    if head.get(0x202..0x206) == Some(b"HdrS") {
        return Some(kernel(Architecture::X86_64, false));
    }
    // The flags: pages are those of bits 1 and 2, from 4 KiB at 1 on.
    let pages = (head.get(0x18)? >> 1) & 3;
    let is_for_arm64 = head.get(0x38..0x3c) == Some(b"ARM\x64");
    is_for_arm64.then(|| kernel(Architecture::Arm64, pages == 2))
}

/// Where the packed kernel lies in a program for EFI that unpacks and starts it.
fn zboot(head: &[u8]) -> Option<Range<u64>> {
    let number = |at: usize| {
        let bytes = head.get(at..at + 4)?.try_into().ok()?;
        Some(u64::from(u32::from_le_bytes(bytes)))
    };
    let is_zboot = head.starts_with(b"MZ") && head.get(4..8) == Some(b"zimg");
    let (start, size) = (number(8)?, number(12)?);
    is_zboot.then_some(start..start + size)
}

/// The bytes that `area` of `file` packs; packed by gzip, zstd or xz, or not at all.
fn unpack(mut file: File, area: &Range<u64>) -> io::Result<impl Read> {
    file.seek(SeekFrom::Start(area.start))?;
    let (_, kernel) = decompress(file.take(area.end - area.start), LARGEST)?;
    Ok(kernel)
}

/// The first bytes of a kernel, for tests.
#[cfg(test)]
pub(super) fn head(architecture: Architecture) -> Vec<u8> {
    let mut head = vec![0; 4000];
    let (at, magic) = match architecture {
        Architecture::X86_64 => (0x202, b"HdrS"),
        Architecture::Arm64 => (0x38, b"ARM\x64"),
    };
    head[..2].copy_from_slice(b"MZ");
    head[at..at + 4].copy_from_slice(magic);
    head
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::error::Class;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).expect("memory");
        encoder.finish().expect("memory")
    }

    /// A program for EFI around `packed`, which has more behind it.
    fn around(packed: &[u8]) -> Vec<u8> {
        let mut program = b"MZ\0\0zimg".to_vec();
        program.extend_from_slice(&512u32.to_le_bytes());
        program.extend_from_slice(&(packed.len() as u32).to_le_bytes());
        program.resize(512, 0);
        program.extend_from_slice(packed);
        program.extend_from_slice(b"more of it");
        program
    }

    #[test]
    fn kernels_are_known_by_their_headers() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("vmlinuz-6.1");
        let look = |content: &[u8]| {
            std::fs::write(&path, content).expect("written");
            KernelFile::look(&path).expect("it can be read")
        };
        let found = |architecture, packed| {
            Some(KernelFile {
                architecture,
                has_pages_of_16_kib: false,
                packed,
            })
        };
        let (x86_64, arm64) = (head(Architecture::X86_64), head(Architecture::Arm64));
        assert_eq!(look(&x86_64), found(Architecture::X86_64, None));
        assert_eq!(look(&arm64), found(Architecture::Arm64, None));
        let zstd = zstd::encode_all(&arm64[..], 3).expect("memory");
        for packed in [gzip(&arm64), zstd] {
            let all = Some(0..packed.len() as u64);
            assert_eq!(look(&packed), found(Architecture::Arm64, all));
            let file = look(&around(&packed)).expect("a kernel");
            let area = Some(512..512 + packed.len() as u64);
            assert_eq!(Some(&file), found(Architecture::Arm64, area).as_ref());
            let unpacked = folder.path().join("unpacked");
            file.unpack(&path, &unpacked).expect("it unpacks");
            assert!(std::fs::read(&unpacked).expect("read") == arm64);
            std::fs::remove_file(unpacked).expect("removed");
        }
        for (flags, pages_of_16_kib) in [(0x0a, false), (0x0c, true), (0x0e, false)] {
            let mut kernel = arm64.clone();
            kernel[0x18] = flags;
            for content in [around(&gzip(&kernel)), kernel] {
                let found = look(&content).expect("a kernel");
                assert_eq!(found.has_pages_of_16_kib, pages_of_16_kib, "{flags}");
            }
        }
        let mut cut = around(&gzip(&arm64));
        cut.truncate(520);
        for other in [
            b"".to_vec(),
            b"MZ".to_vec(),
            b"\x7fELF\x02\x01".to_vec(),
            vec![0; 4000],
            gzip(b"no kernel"),
            // One for x86-64 is never packed as a whole: nothing would start it.
            gzip(&x86_64),
            around(b"packed by nobody knows what"),
            cut,
            gzip(&arm64)[..10].to_vec(),
        ] {
            assert_eq!(look(&other), None, "{}", other.escape_ascii());
        }
    }

    #[test]
    fn a_kernel_for_another_machine_is_told() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("vmlinuz-6.1");
        let (x86_64, arm64) = (Architecture::X86_64, Architecture::Arm64);
        for (of, wanted) in [(x86_64, arm64), (arm64, x86_64)] {
            std::fs::write(&path, head(of)).expect("written");
            assert_eq!(judge(&path, of).expect("it fits").architecture, of);
            let error = judge(&path, wanted).expect_err("it does not fit");
            assert_eq!(error.class(), Class::Environment);
            let (said, hint) = (error.to_string(), error.hint_text().unwrap_or_default());
            let is = format!("vmlinuz-6.1 is for {}, ", of.name());
            assert!(said.contains(&is), "{said}");
            let for_it = format!("the machine is one of {}", wanted.name());
            assert!(said.ends_with(&for_it), "{said}");
            assert!(hint.contains("NODEKILN_VM_KERNEL"), "{hint}");
            assert!(hint.contains(wanted.name()), "{hint}");
        }
        std::fs::write(&path, "#!/bin/sh").expect("written");
        let error = judge(&path, arm64).expect_err("no kernel");
        assert_eq!(error.class(), Class::Environment);
        assert!(error.to_string().contains("no Linux kernel"), "{error}");
        std::fs::remove_file(&path).expect("removed");
        let error = judge(&path, arm64).expect_err("no file");
        assert_eq!(error.class(), Class::Environment);
        assert!(error.to_string().contains("cannot be read"), "{error}");
    }
}
