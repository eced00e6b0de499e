//! The lines of file contexts, and which of them counts for a path.

use super::pattern::Pattern;
use crate::error::{Error, Result};
use crate::volume::Kind;

/// Most lines with a label that are taken of all files together; Fedora's
/// `targeted` has about 7,000.
const SPECIFICATIONS: usize = 1 << 15;
/// Longest label in bytes: a page of the kernel, less its NUL.
const LONGEST_LABEL: usize = 4095;
/// What stands for a label where files keep what they have.
const NONE: &str = "<<none>>";
/// What makes libselinux take a path for an expression (`spec_hasMetaChars`).
const META: &[u8] = b".^$?*+|[({";

/// Kinds of files that lines can be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    /// `--`
    File,
    /// `-d`
    Directory,
    /// `-l`
    Symlink,
    /// `-c`
    CharacterDevice,
    /// `-b`
    BlockDevice,
    /// `-p`
    Pipe,
    /// `-s`
    Socket,
}

impl FileType {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::File,
        Self::Directory,
        Self::Symlink,
        Self::CharacterDevice,
        Self::BlockDevice,
        Self::Pipe,
        Self::Socket,
    ];

    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "--" => Self::File,
            "-d" => Self::Directory,
            "-l" => Self::Symlink,
            "-c" => Self::CharacterDevice,
            "-b" => Self::BlockDevice,
            "-p" => Self::Pipe,
            "-s" => Self::Socket,
            _ => return None,
        })
    }

    /// That of something in a volume; `None` for devices, pipes and sockets,
    /// which a volume does not tell apart.
    pub fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::File => Some(Self::File),
            Kind::Directory => Some(Self::Directory),
            Kind::Symlink => Some(Self::Symlink),
            Kind::Special => None,
        }
    }
}

/// The lines of all files, in the order in which they count.
#[derive(Debug, Default)]
pub struct FileContexts {
    specifications: Vec<Specification>,
}

/// One line.
#[derive(Debug)]
struct Specification {
    /// The first component, when a path has to have it literally. What follows
    /// it is what `pattern` is for.
    stem: Option<Vec<u8>>,
    pattern: Pattern,
    file_type: Option<FileType>,
    /// `None` for [`NONE`].
    label: Option<String>,
    is_expression: bool,
}

impl FileContexts {
    /// Without a line.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.specifications.is_empty()
    }

    /// Takes the lines of the file `name`. They count more than those of the
    /// files before it.
    ///
    /// # Errors
    /// [`crate::Class::Input`] with file and line for what libselinux refuses
    /// too, and for what cannot be a label.
    pub fn add(&mut self, name: &str, text: &[u8]) -> Result<()> {
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let at = |problem: String| {
                Error::input(format!("read {name} of the image, line {number}: {problem}"))
                    .hint("the policy of the base is damaged, or is none that nodekiln can read; see docs/selinux.md")
            };
            if let Some(specification) = Specification::parse(line).map_err(at)? {
                if self.specifications.len() == SPECIFICATIONS {
                    return Err(at(format!("more than {SPECIFICATIONS} lines have a label")));
                }
                self.specifications.push(specification);
            }
        }
        Ok(())
    }

    /// Puts paths without expressions behind all others, as `sort_specs` does.
    pub fn sort(&mut self) {
        // A stable sort: both parts stay in their order.
        self.specifications
            .sort_by_key(|specification| !specification.is_expression);
    }

    /// The label of `path`, by the last line that fits it; `None` when there is
    /// none, or it says `<<none>>`.
    pub fn label(&self, path: &[u8], kind: FileType) -> Option<&str> {
        let stem = stem_of(path);
        self.specifications
            .iter()
            .rev()
            .find(|it| it.fits(path, stem, kind))
            .and_then(|it| it.label.as_deref())
    }
}

impl Specification {
    /// Takes one line; `None` for a comment and an empty one.
    fn parse(line: &[u8]) -> Result<Option<Self>, String> {
        let mut words = line
            .split(|byte| byte.is_ascii_whitespace() || *byte == 0x0b)
            .filter(|word| !word.is_empty());
        let Some(path) = words.next().filter(|word| word[0] != b'#') else {
            return Ok(None);
        };
        let path = ascii(path)?;
        let second = words.next().ok_or("it has a path and no label")?;
        let second = ascii(second)?;
        let (file_type, label) = match words.next() {
            None => (None, second),
            Some(third) => {
                let file_type = FileType::parse(second)
                    .ok_or_else(|| format!("'{second}' is no kind of files"))?;
                (Some(file_type), ascii(third)?)
            }
        };
        let stem = stem_of(path.as_bytes()).filter(|stem| !stem.iter().any(|it| META.contains(it)));
        let rest = &path[stem.map_or(0, <[u8]>::len)..];
        Ok(Some(Self {
            pattern: Pattern::new(rest).map_err(|problem| format!("'{path}': {problem}"))?,
            stem: stem.map(<[u8]>::to_vec),
            file_type,
            label: checked_label(label)?,
            is_expression: is_expression(path.as_bytes()),
        }))
    }

    fn fits(&self, path: &[u8], stem: Option<&[u8]>, kind: FileType) -> bool {
        if self.file_type.is_some_and(|wanted| wanted != kind) {
            return false;
        }
        match (&self.stem, stem) {
            (None, _) => self.pattern.matches(path),
            (Some(wanted), Some(stem)) if wanted == stem => {
                self.pattern.matches(&path[stem.len()..])
            }
            (Some(_), _) => false,
        }
    }
}

/// The first component with its slash, when another slash follows it.
fn stem_of(path: &[u8]) -> Option<&[u8]> {
    let second = path.iter().skip(1).position(|byte| *byte == b'/')?;
    Some(&path[..=second])
}

/// Whether libselinux takes `path` for an expression: a character of [`META`]
/// without a backslash.
fn is_expression(path: &[u8]) -> bool {
    let mut bytes = path.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            byte if META.contains(byte) => return true,
            _ => {}
        }
    }
    false
}

fn ascii(word: &[u8]) -> Result<&str, String> {
    let problem = || {
        let shown: String = String::from_utf8_lossy(word).chars().take(40).collect();
        format!("'{}' is not plain ASCII", shown.escape_debug())
    };
    let is_plain = word.iter().all(|byte| byte.is_ascii_graphic());
    std::str::from_utf8(word)
        .ok()
        .filter(|_| is_plain)
        .ok_or_else(problem)
}

/// A label is `user:role:type`, with a range behind it where the policy has
/// levels. Whether the policy knows them, only the kernel can say.
fn checked_label(text: &str) -> Result<Option<String>, String> {
    if text == NONE {
        return Ok(None);
    }
    let mut parts = text.splitn(4, ':');
    let is_whole = (0..3).all(|_| parts.next().is_some_and(|part| !part.is_empty()))
        && parts.next() != Some("")
        && text.len() <= LONGEST_LABEL;
    if is_whole {
        Ok(Some(text.to_owned()))
    } else {
        let shown: String = text.chars().take(80).collect();
        Err(format!("'{shown}' is no label"))
    }
}
