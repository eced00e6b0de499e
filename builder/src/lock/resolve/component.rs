//! The pins of one component.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Resolver, TRUST_CATALOGUE, TRUST_LOCAL, TRUST_PROFILE};
use crate::catalog::{self, Checksum, Component, Shape, Wish};
use crate::error::{Error, Result};
use crate::image_path::ImagePath;
use crate::lock::checksum_file::checksum_in;
use crate::lock::file_name_of_url;
use crate::lock::model::{LockedComponent, LockedFile, LockedMember, Origin};
use crate::lock::sources::{MemberSelection, Stored};
use crate::lock::upgrade::Input;
use crate::profile::model::{ComponentName, ComponentSource};
use crate::store::{Digest, shown};

/// Names that an error lists when a member is not in an archive.
const NAMES_SHOWN: usize = 5;

/// Where a component's file comes from, and what vouches for it.
enum Wanted<'a> {
    Local {
        path: &'a Path,
        sha256: Option<Digest>,
    },
    Remote {
        url: String,
        checksum: Checksum,
        /// Whether the profile leaves the choice to the catalogue.
        by_catalogue: bool,
        /// Whether the profile gives the digest.
        in_profile: bool,
    },
}

impl Wanted<'_> {
    /// How its file is trusted, in the words of a lock.
    fn trust(&self) -> String {
        match self {
            Self::Local { sha256: None, .. } => TRUST_LOCAL.to_owned(),
            Self::Local { .. }
            | Self::Remote {
                in_profile: true, ..
            } => TRUST_PROFILE.to_owned(),
            Self::Remote {
                checksum: Checksum::File(url),
                ..
            } => format!("checksum file {url}"),
            Self::Remote { .. } => TRUST_CATALOGUE.to_owned(),
        }
    }
}

impl Resolver<'_> {
    pub(super) fn component(
        &self,
        part: &'static Component,
        source: Option<&ComponentSource>,
    ) -> Result<LockedComponent> {
        let wanted = self.wanted(part, source)?;
        let member = source.and_then(|source| source.member.as_deref());
        let kept = self.kept(part, &wanted, member);
        // A local file may have changed; where it is gone, the store has it.
        let is_present =
            matches!(&wanted, Wanted::Local { path, .. } if self.sources.is_present(path));
        if let Some(pin) = &kept
            && !is_present
        {
            return Ok(pin.clone());
        }
        let file = match &wanted {
            Wanted::Local { path, sha256 } => {
                let stored = self
                    .local(path, *sha256)
                    .map_err(|error| error.context(format!("lock {}", part.label)))?;
                LockedFile {
                    origin: self.path_origin(path),
                    sha256: stored.sha256,
                    size: stored.size,
                    trust: wanted.trust(),
                }
            }
            Wanted::Remote { url, checksum, .. } => {
                let expected = self.expected(part, url, checksum)?;
                let stored = self
                    .download(url, expected)
                    .map_err(|error| error.context(format!("lock {}", part.label)))?;
                LockedFile {
                    origin: Origin::Url(url.clone()),
                    sha256: stored.sha256,
                    size: stored.size,
                    trust: wanted.trust(),
                }
            }
        };
        match kept {
            Some(pin) if pin.file == file => return Ok(pin),
            Some(_) => self.sources.note(&format!(
                "the file of {} changed: it is pinned anew",
                part.label
            )),
            None => {}
        }
        let (name, whole) = match &wanted {
            Wanted::Local { path, .. } => (
                path.file_name().unwrap_or_default().to_string_lossy(),
                path.display().to_string(),
            ),
            Wanted::Remote { url, .. } => (file_name_of_url(url).into(), shown(url)),
        };
        let members = if catalog::is_archive(&name) {
            self.unpacked(part, &file, &whole, &selection(part, member)?)?
        } else {
            plain(part, &file)?
        };
        Ok(LockedComponent { file, members })
    }

    fn wanted<'a>(
        &self,
        part: &Component,
        source: Option<&'a ComponentSource>,
    ) -> Result<Wanted<'a>> {
        let Some(source) = source else {
            let upstream = catalog::upstream(part.name, &self.wish())?;
            return Ok(Wanted::Remote {
                url: upstream.url,
                checksum: upstream.checksum,
                by_catalogue: true,
                in_profile: false,
            });
        };
        let sha256 = source
            .sha256
            .as_deref()
            .map(Digest::from_hex)
            .transpose()
            .map_err(|error| error.context(format!("lock {}", part.label)))?;
        match (&source.path, &source.url) {
            (Some(path), _) => Ok(Wanted::Local { path, sha256 }),
            (None, Some(url)) => Ok(Wanted::Remote {
                url: url.clone(),
                checksum: match sha256 {
                    Some(digest) => Checksum::Known(digest),
                    None => Checksum::File(
                        source
                            .checksum_url
                            .clone()
                            .unwrap_or_else(|| format!("{url}.sha256")),
                    ),
                },
                by_catalogue: false,
                in_profile: sha256.is_some(),
            }),
            (None, None) => Err(Error::input(format!(
                "lock {}: the profile names no source for it",
                part.label
            ))
            .hint("give it a url or a path")),
        }
    }

    fn wish(&self) -> Wish<'_> {
        let spec = &self.profile.spec;
        Wish {
            version: &spec.kubernetes.version,
            eks_build: spec.kubernetes.eks_build.as_deref(),
            architecture: spec.architecture,
            is_debian: spec.base.bootstrap.is_some(),
        }
    }

    /// The previous pin, if the profile still asks for it.
    fn kept(
        &self,
        part: &Component,
        wanted: &Wanted<'_>,
        member: Option<&str>,
    ) -> Option<LockedComponent> {
        if self.upgrade.includes(Input::Component(part.name)) {
            return None;
        }
        let pin = self.previous?.components.get(&part.name)?;
        let trust = &pin.file.trust;
        let same_file = match (wanted, &pin.file.origin) {
            (Wanted::Local { path, sha256 }, origin) => {
                *origin == self.path_origin(path)
                    && sha256.is_none_or(|sha256| sha256 == pin.file.sha256)
                    && *trust == wanted.trust()
            }
            (
                Wanted::Remote {
                    by_catalogue: true, ..
                },
                Origin::Url(url),
            ) => {
                // The catalogue may know a newer release by now: that is for an
                // upgrade to take. Another kind of trust is another wish.
                let by_catalogue = trust == TRUST_CATALOGUE || trust.starts_with("checksum file ");
                by_catalogue && catalog::is_upstream(part.name, &self.wish(), url)
            }
            (Wanted::Remote { url, checksum, .. }, Origin::Url(pinned)) => {
                let same_digest = match checksum {
                    Checksum::Known(digest) => *digest == pin.file.sha256,
                    Checksum::File(_) | Checksum::Missing => true,
                };
                url == pinned && same_digest && *trust == wanted.trust()
            }
            _ => false,
        };
        let selection = selection(part, member).ok();
        let archive = pin.members.keys().all(|path| match &selection {
            Some(selection) => path == part.label || selection.takes(path, 0o755),
            None => path == part.label,
        });
        (same_file && archive && !pin.members.is_empty()).then(|| pin.clone())
    }

    fn expected(&self, part: &Component, url: &str, checksum: &Checksum) -> Result<Digest> {
        let key = format!("spec.kubernetes.components.{}", part.label);
        match checksum {
            Checksum::Known(digest) => Ok(*digest),
            Checksum::Missing => Err(Error::dependency(format!(
                "lock {}: its publisher gives no checksum for {url}",
                part.label
            ))
            .hint(format!(
                "download and verify it yourself, then give {key} a `path`, or its `url` with \
                 the `sha256` that `sha256sum` prints{}",
                match part.name {
                    ComponentName::SsmSetupCli if self.profile.spec.base.bootstrap.is_none() =>
                        "; for a base of Ubuntu or Debian take debian_ instead of linux_",
                    _ => "",
                }
            ))),
            Checksum::File(list) => {
                let text = self.text(list).map_err(|error| {
                    let gone = error.class() == crate::Class::Dependency;
                    let error = error.context(format!("find the checksum of {url}"));
                    if gone {
                        error.hint(format!(
                            "give {key} a `checksumUrl`, or the `sha256` itself; or check that \
                             the version exists"
                        ))
                    } else {
                        error
                    }
                })?;
                checksum_in(&text, file_name_of_url(url)).map_err(|error| {
                    error
                        .context(format!("find the checksum of {url} in {list}"))
                        .hint(format!(
                            "give {key} another `checksumUrl`, or the `sha256` itself"
                        ))
                })
            }
        }
    }

    fn unpacked(
        &self,
        part: &Component,
        file: &LockedFile,
        name: &str,
        selection: &MemberSelection,
    ) -> Result<BTreeMap<String, LockedMember>> {
        let unpacked = self
            .sources
            .members(&file.sha256, selection)
            .map_err(|error| error.context(format!("unpack {} from {name}", part.label)))?;
        if unpacked.members.is_empty() {
            let wish = match selection {
                MemberSelection::File(path) => format!("no member '{path}'"),
                MemberSelection::Programs(folder) if folder.is_empty() => {
                    "no program at its top".to_owned()
                }
                MemberSelection::Programs(folder) => format!("no program in '{folder}'"),
            };
            let sought = match selection {
                MemberSelection::File(path) | MemberSelection::Programs(path) => path,
            };
            let others = unpacked.others.iter().map(String::as_str);
            let close = crate::profile::closest(sought, others, NAMES_SHOWN);
            let hint = if close.is_empty() {
                "the archive has no regular file; is it the right one?".to_owned()
            } else {
                format!(
                    "give spec.kubernetes.components.{} the right `member`; the archive has: {}",
                    part.label,
                    close.join(", ")
                )
            };
            return Err(Error::dependency(format!(
                "unpack {} from {name}: the archive has {wish}",
                part.label
            ))
            .hint(hint));
        }
        unpacked
            .members
            .into_iter()
            .map(|(path, member)| {
                let destination = destination(part, &path)?;
                Ok((path, locked_member(member.content, destination)))
            })
            .collect()
    }
}

/// What is taken out of an archive.
fn selection(part: &Component, member: Option<&str>) -> Result<MemberSelection> {
    let member = member.map(|path| {
        path.trim_start_matches("./")
            .trim_end_matches('/')
            .to_owned()
    });
    match (part.shape, member) {
        (Shape::Program { .. }, Some(path)) => Ok(MemberSelection::File(path)),
        (Shape::Programs { .. }, Some(folder)) => Ok(MemberSelection::Programs(folder)),
        (Shape::Programs { member_folder, .. }, None) => {
            Ok(MemberSelection::Programs(member_folder.to_owned()))
        }
        (Shape::Program { .. }, None) => Err(Error::input(format!(
            "unpack {}: nothing says which member of the archive it is",
            part.label
        ))
        .hint(format!(
            "give spec.kubernetes.components.{} a `member`",
            part.label
        ))),
    }
}

/// A program that is no archive.
fn plain(part: &Component, file: &LockedFile) -> Result<BTreeMap<String, LockedMember>> {
    let Shape::Program { destination } = part.shape else {
        return Err(Error::input(format!(
            "lock {}: it is several programs, so its file must be an archive",
            part.label
        ))
        .hint(format!(
            "give an archive ({})",
            catalog::ARCHIVE_ENDINGS.join(", ")
        )));
    };
    let content = Stored {
        sha256: file.sha256,
        size: file.size,
    };
    let member = locked_member(content, ImagePath::new(destination)?);
    Ok(BTreeMap::from([(part.label.to_owned(), member)]))
}

fn destination(part: &Component, member: &str) -> Result<ImagePath> {
    match part.shape {
        Shape::Program { destination } => ImagePath::new(destination),
        Shape::Programs { folder, .. } => {
            let name = member.rsplit('/').next().unwrap_or(member);
            ImagePath::new(folder)?.join(name)
        }
    }
}

fn locked_member(content: Stored, destination: ImagePath) -> LockedMember {
    LockedMember {
        sha256: content.sha256,
        size: content.size,
        destination,
        mode: catalog::PROGRAM_MODE.to_owned(),
    }
}
