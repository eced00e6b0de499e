//! Packages of the base's own kind: what they bring, and how the image's database
//! records them, so that the system's own tools list, check and remove them.
//!
//! Nothing of a package runs. Its dependencies must be there, its files must be its own,
//! and its scripts must be none that matter in an image, or the profile must say why they
//! need not run. docs/packages.md tells it for people.

mod configuration;
mod dpkg;
mod linker;
mod relations;
mod rpm;
mod scripts;
mod triggers;

use std::collections::{BTreeMap, BTreeSet};

use super::compute::Inputs;
use super::draft::Draft;
use super::overlay::TEMPLATE_SUFFIX;
use super::{Content, Node, Source};
use crate::error::{Error, Result};
use crate::image_path::ImagePath;
use crate::os::support::SSM_AGENT;
use crate::os::tree::fixed;
use crate::os::{PackageDatabase, SsmAgent, Tree};
use crate::packages::{Details, Item, Kind, Package};
use crate::volume::{Attributes, Timestamp};

/// Where debhelper's tool keeps which links it made for a unit.
const UNIT_STATE: &str = "/var/lib/systemd/deb-systemd-helper-enabled";
/// Where systemd's links of units are.
const UNIT_LINKS: &str = "/etc/systemd/system/";

/// Lines of one script that an error names.
const LINES_SHOWN: usize = 8;

/// What the packages ask of the rest of a plan.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// Units to enable.
    pub enable: BTreeSet<String>,
}

/// Plans the packages of the profile.
pub(super) fn plan(draft: &mut Draft<'_>, inputs: &Inputs<'_>) -> Result<Wishes> {
    if inputs.packages.is_empty() {
        return Ok(Wishes::default());
    }
    let (mut debs, mut rpms) = (Vec::new(), Vec::new());
    for package in inputs.packages {
        let (kind, of) = match &package.details {
            Details::Deb(deb) => {
                debs.push((package, deb.as_ref()));
                ("a Debian package", PackageDatabase::Dpkg)
            }
            Details::Rpm(rpm) => {
                rpms.push((package, rpm.as_ref()));
                ("an rpm", PackageDatabase::Rpm)
            }
        };
        if inputs.os.packages != of {
            return Err(Error::input(format!(
                "install the package {}: it is {kind}, and {} keeps no such packages",
                package.name(),
                inputs.os.pretty_name
            ))
            .hint("take the package that is built for the base"));
        }
    }
    one_ssm_agent(inputs)?;
    if rpms.is_empty() {
        dpkg::plan(draft, inputs, &debs)
    } else {
        rpm::plan(draft, inputs, &rpms)
    }
}

/// Refuses a second SSM agent: both would manage the machine, and a node has one identity.
fn one_ssm_agent(inputs: &Inputs<'_>) -> Result<()> {
    let new = inputs
        .packages
        .iter()
        .find(|package| package.name() == SSM_AGENT);
    match (new, inputs.os.ssm_agent) {
        (Some(package), Some(SsmAgent::Snap)) => Err(Error::input(format!(
            "{}: the base has the SSM agent as a snap, and two agents would manage one machine",
            installing(package)
        ))
        .hint("leave the package away: first boot registers the snap's agent; or take a base without the snap")),
        _ => Ok(()),
    }
}

/// Records which links were made for the units that packages asked to enable, as
/// `deb-systemd-helper` does: purging the package then takes them away.
pub(super) fn record_units(draft: &mut Draft<'_>, wishes: &Wishes) -> Result<()> {
    for unit in &wishes.enable {
        let reason = format!("service {unit}");
        let links = draft.links_for(&reason);
        let state = fixed(UNIT_STATE);
        let mut list = String::new();
        for link in &links {
            let Some(place) = link.as_str().and_then(|link| link.strip_prefix(UNIT_LINKS)) else {
                continue;
            };
            list += &format!("{link}\n");
            draft.put_text(
                &ImagePath::new(format!("{UNIT_STATE}/{place}"))?,
                0o644,
                "",
                &reason,
            )?;
        }
        if !list.is_empty() {
            draft.put_text(
                &state.join(format!("{unit}.dsh-also"))?,
                0o644,
                list,
                &reason,
            )?;
        }
    }
    Ok(())
}

/// What is done with a package, for errors.
fn installing(package: &Package) -> String {
    format!(
        "install the package {} {}",
        package.name(),
        package.version()
    )
}

/// What speaks against a package by itself: it is for other machines than the `native` ones
/// and those of `any`, or one of its name is among `names`, which it joins.
fn admit<'a>(
    package: &'a Package,
    native: &str,
    any: &str,
    names: &mut BTreeSet<&'a str>,
) -> Vec<Error> {
    let doing = installing(package);
    let mut problems = Vec::new();
    let architecture = package.architecture();
    if architecture != any && architecture != native {
        problems.push(
            Error::input(format!(
                "{doing}: it is for {}, the image for {native}",
                architecture.escape_debug()
            ))
            .hint("take the package for the image's architecture"),
        );
    }
    if !names.insert(package.name()) {
        problems.push(
            Error::input(format!("{doing}: the profile lists it twice"))
                .hint("keep one of the two"),
        );
    }
    problems
}

/// The refusal of a package that the base has in this version.
fn is_there(package: &Package, version: &str) -> Error {
    Error::unsupported(format!(
        "{}: the base has version {version} of it, and nothing replaces what a base has",
        installing(package)
    ))
    .hint("leave the package away, or replace it in a machine of the base")
}

/// The refusal of a package that brings a file of another.
fn owned(path: &ImagePath, package: &Package, owner: &str) -> Error {
    Error::input(format!(
        "{}: {path} belongs to the package {}",
        installing(package),
        owner.escape_debug()
    ))
    .hint("leave one of the two packages away: no package replaces files of another")
}

/// One error of all problems; none without any.
fn together(problems: Vec<Error>) -> Result<()> {
    let mut problems = problems.into_iter();
    match problems.next() {
        None => Ok(()),
        Some(first) => Err(first.and(problems.collect())),
    }
}

/// The files that overlays lay.
fn laid_by_overlays(inputs: &Inputs<'_>) -> BTreeSet<ImagePath> {
    let paths = inputs
        .overlays
        .iter()
        .flat_map(|overlay| overlay.entries.keys());
    paths
        .filter_map(|path| match path.as_str()?.strip_suffix(TEMPLATE_SUFFIX) {
            Some(name) => ImagePath::new(name).ok(),
            None => Some(path.clone()),
        })
        .collect()
}

/// The refusal of a package of which this would run; none when nothing would, or the
/// profile says why it need not.
fn not_run(package: &Package, runs: &[String]) -> Option<Error> {
    if runs.is_empty() || package.ignore_scripts.is_some() {
        return None;
    }
    let error = Error::unsupported(format!(
        "{}: nothing of a package is run, and this would matter: {}",
        installing(package),
        runs.join("; ")
    ));
    Some(error.hint(
        "when the image can do without it, or the profile does it (users, services, overlays), \
         say why with ignoreScripts",
    ))
}

fn shown(lines: &[String]) -> String {
    let more = lines.len().saturating_sub(LINES_SHOWN);
    let mut text = lines[..lines.len() - more]
        .iter()
        .map(|line| format!("`{}`", line.escape_debug()))
        .collect::<Vec<_>>()
        .join(", ");
    if more > 0 {
        text += &format!(" and {more} more lines");
    }
    text
}

fn reason(package: &Package) -> String {
    format!("package {}", package.name())
}

/// Numbers of users and groups by name, as the image has them.
struct Accounts {
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
}

impl Accounts {
    fn read(draft: &mut Draft<'_>) -> Result<Self> {
        let mut numbers = |path: &str| -> Result<BTreeMap<String, u32>> {
            let text = draft.read_text(&fixed(path))?.unwrap_or_default();
            let number = |line: &str| {
                let mut fields = line.split(':');
                let name = fields.next()?.to_owned();
                Some((name, fields.nth(1)?.parse().ok()?))
            };
            Ok(text.lines().filter_map(number).collect())
        };
        Ok(Self {
            users: numbers("/etc/passwd")?,
            groups: numbers("/etc/group")?,
        })
    }

    /// Owner and group of an item: by name where the image knows it, else by number.
    fn of(&self, item: &Item) -> Result<(u32, u32)> {
        let find = |known: &BTreeMap<String, u32>, (name, number): &(String, Option<u32>), what| {
            if name == "root" {
                return Ok(0);
            }
            known.get(name).copied().or(*number).ok_or_else(|| {
                Error::input(format!(
                    "{}: the image has no {what} '{}'",
                    item.path,
                    name.escape_debug()
                ))
                .hint("add the package that makes it to the base")
            })
        };
        Ok((
            find(&self.users, &item.owner, "user")?,
            find(&self.groups, &item.group, "group")?,
        ))
    }
}

/// Lays what a package brings; `moved` are the items that go to another name.
fn lay(
    draft: &mut Draft<'_>,
    package: &Package,
    accounts: &Accounts,
    moved: &BTreeMap<ImagePath, Option<ImagePath>>,
) -> Result<()> {
    let reason = reason(package);
    for item in package.items.iter().filter(|item| !item.path.is_root()) {
        let path = match moved.get(&item.path) {
            Some(None) => continue,
            Some(Some(other)) => other,
            None => &item.path,
        };
        let (uid, gid) = accounts
            .of(item)
            .map_err(|error| error.context(format!("install the {reason}")))?;
        let attributes = Attributes {
            mode: item.mode,
            uid,
            gid,
            modified: Timestamp {
                seconds: item.modified,
                nanoseconds: 0,
            },
            xattrs: item.xattrs.clone(),
        };
        let node = match &item.kind {
            Kind::Directory => Node::Directory { keep: true },
            Kind::Symlink(target) => Node::Symlink {
                target: target.clone(),
            },
            Kind::File(stored) => Node::File {
                content: Content {
                    sha256: stored.sha256,
                    size: stored.size,
                    source: item.text.clone().map_or(Source::Store, Source::Inline),
                },
            },
        };
        draft.put(path, node, attributes, &reason)?;
    }
    Ok(())
}

/// The names by which the database may know a path: as the package writes it, and as it
/// is where `/bin`, `/lib` and others are links below `/usr`.
fn spellings(draft: &mut Draft<'_>, path: &ImagePath) -> Result<BTreeSet<ImagePath>> {
    let real = draft.resolve_parent(path)?;
    let mut names = BTreeSet::from([path.clone(), real.clone()]);
    if let Some(short) = real
        .as_bytes()
        .strip_prefix(b"/usr")
        .filter(|short| short.len() > 1)
    {
        let short = ImagePath::new(short)?;
        if draft.resolve_parent(&short)? == real {
            names.insert(short);
        }
    }
    Ok(names)
}
