//! Kernel modules of an image, by the lists that `depmod` made.

use std::collections::BTreeSet;

use super::tree::{Tree, fixed};
use crate::error::Result;
use crate::image_path::ImagePath;
use crate::volume::Kind;

/// Something that the kernel of a node must be able to do.
#[derive(Debug)]
pub struct Need {
    /// Modules of which one is enough; a built-in one counts.
    pub any_of: &'static [&'static str],
    /// Who needs it, for what.
    pub purpose: &'static str,
}

/// What every node needs. Sources: containerd's overlay snapshotter; the network plugins
/// `bridge` and `ptp`; kube-proxy, in both of its ways to talk to netfilter; the kernel
/// settings that Kubernetes' documentation asks for ("Container runtimes").
pub static NEEDED: &[Need] = &[
    Need {
        any_of: &["overlay"],
        purpose: "containerd lays the file systems of containers with it",
    },
    Need {
        any_of: &["br_netfilter"],
        purpose: "packets between pods of one bridge pass services with it",
    },
    Need {
        any_of: &["bridge"],
        purpose: "network plugins join pods with it",
    },
    Need {
        any_of: &["veth"],
        purpose: "network plugins reach pods with it",
    },
    Need {
        any_of: &["nf_conntrack"],
        purpose: "kube-proxy follows connections with it",
    },
    Need {
        any_of: &["nf_nat"],
        purpose: "kube-proxy sends services to pods with it",
    },
    Need {
        any_of: &["nf_tables", "ip_tables"],
        purpose: "kube-proxy writes its rules with it",
    },
];

/// The folder of all kernels' modules.
fn folder(image: &mut dyn Tree) -> Result<ImagePath> {
    let folder = image.resolve(&fixed("/lib/modules"))?;
    match image.metadata(&folder)? {
        Some(_) => Ok(folder),
        None => image.resolve(&fixed("/usr/lib/modules")),
    }
}

/// Kernel releases that have modules, sorted.
///
/// # Errors
/// What the volume gives.
pub fn kernels(image: &mut dyn Tree) -> Result<Vec<String>> {
    let folder = folder(image)?;
    let mut found = Vec::new();
    for entry in image.list(&folder)? {
        if entry.kind == Kind::Directory
            && let Ok(name) = String::from_utf8(entry.name)
            && image.is_file(&folder.join(&name)?.join("modules.dep")?)?
        {
            found.push(name);
        }
    }
    Ok(found)
}

/// Every name that modprobe takes for this kernel, but for wildcard aliases.
///
/// # Errors
/// What the volume gives.
pub fn known(image: &mut dyn Tree, kernel: &str) -> Result<BTreeSet<String>> {
    let folder = folder(image)?.join(kernel)?;
    let mut known = BTreeSet::new();
    for list in ["modules.dep", "modules.builtin"] {
        let text = image.read_text(&folder.join(list)?)?.unwrap_or_default();
        known.extend(text.lines().filter_map(|line| {
            let path = line.split(':').next()?;
            let file = path.rsplit('/').next()?;
            file.split_once(".ko").map(|(name, _)| canonical(name))
        }));
    }
    let text = image
        .read_text(&folder.join("modules.alias")?)?
        .unwrap_or_default();
    known.extend(text.lines().filter_map(|line| {
        let name = line.strip_prefix("alias ")?.split_whitespace().next()?;
        (!name.contains(['*', '?', ':'])).then(|| canonical(name))
    }));
    Ok(known)
}

/// What a node needs and this kernel lacks.
///
/// # Errors
/// What the volume gives.
pub fn lacking(image: &mut dyn Tree, kernel: &str) -> Result<Vec<&'static Need>> {
    let known = known(image, kernel)?;
    let has = |need: &&Need| need.any_of.iter().any(|module| known.contains(*module));
    Ok(NEEDED.iter().filter(|need| !has(need)).collect())
}

/// modprobe takes `-` and `_` for the same.
pub fn canonical(module: &str) -> String {
    module.replace('-', "_")
}
