//! The image that every pod starts with: out of this machine's own image, or, as
//! nodeadm has it on hybrid nodes, from ECR with a token of the node's own role.

mod pull;

use std::time::Duration;

use super::Error;
use super::journal::digest;
use super::steps::Node;
use super::work::Work;
use crate::render::{LOCAL_SANDBOX_IMAGE, SOCI_CONFIG, sandbox_image};
use crate::system::{Ended, System, Task};

/// Archives that an image may bring: ours, and the one of Amazon's EC2 images.
const ARCHIVES: [&str; 2] = ["/etc/nodekiln/sandbox-image.tar", "/etc/eks/pause.tar"];

/// The namespace in containerd of everything that the kubelet uses.
const NAMESPACE: &str = "k8s.io";

/// Keeps the kubelet from removing an image (containerd, `internal/cri/labels`).
const PINNED: &str = "io.cri-containerd.pinned=pinned";

/// What only images that have it match.
const IS_PINNED: &str = "labels.\"io.cri-containerd.pinned\"==pinned";

/// Time for one answer of containerd, and for an import.
const LIMIT: Duration = Duration::from_secs(120);

/// The image, as containerd's configuration names it, and how it is wanted.
struct Wanted {
    image: String,
    /// Whether the SOCI snapshotter has to have its layers.
    by_soci: bool,
}

/// What is to be there; none on an EC2 node whose image brings it by itself.
fn wanted(node: &Node<'_>) -> Option<Wanted> {
    let is_hybrid = node.config.spec.hybrid.is_some();
    let by_soci = node.files.iter().any(|file| file.path == SOCI_CONFIG);
    let image = match &node.facts.sandbox_image {
        Some(image) => image.clone(),
        None if is_hybrid => sandbox_image(&node.config.spec.cluster.region, node.facts),
        None if by_soci => LOCAL_SANDBOX_IMAGE.to_owned(),
        None => return None,
    };
    Some(Wanted { image, by_soci })
}

/// Digest of what is to be there; empty when nothing is.
pub(super) fn inputs(node: &Node<'_>) -> String {
    wanted(node).map_or_else(String::new, |wanted| digest([wanted.image.as_bytes()]))
}

/// Makes sure that the pause image is in containerd's store. A node without it is
/// not lost, containerd may still pull it with the kubelet's credential provider: so
/// nothing here stops the work. (With nodeadm a pull that fails does.)
pub(super) fn provide(work: &mut Work<'_>, node: &Node<'_>, _: &str) -> Result<(), Error> {
    let Some(wanted) = wanted(node) else {
        return Ok(());
    };
    let image = &wanted.image;
    match supply(work, node, &wanted) {
        Ok(Some(how)) => work.info(&format!("the pause image {image} was {how}")),
        Ok(None) => {}
        Err(problem) => work.warn(&format!(
            "{problem}: containerd pulls {image} when the first pod starts, if it can"
        )),
    }
    Ok(())
}

/// Says how the image was had, if it was not there; or what is wrong.
fn supply(
    work: &Work<'_>,
    node: &Node<'_>,
    wanted: &Wanted,
) -> Result<Option<&'static str>, String> {
    let system = work.system;
    let image = &wanted.image;
    let is_own = node.facts.sandbox_image.is_some() || wanted.by_soci;
    pull::clean(system)?;
    if is_complete(system, wanted, Some(IS_PINNED))? {
        return Ok(None);
    }
    let archive = ARCHIVES
        .into_iter()
        .find(|path| is_own && system.resolve(path).is_some());
    let how = if is_complete(system, wanted, None)? {
        // Cut off before it was pinned, or left so by whoever brought it.
        "pinned"
    } else if let Some(archive) = archive {
        import(system, wanted, archive)?;
        "imported"
    } else if pull::is_possible(work, node, image) {
        pull::pull(work, node, image)?;
        "pulled"
    } else if is_own {
        return Err(format!(
            "the pause image is neither in containerd's store nor at {}",
            ARCHIVES[0]
        ));
    } else {
        return Ok(None);
    };
    must(
        ctr(system, &["images", "label", image, PINNED])?,
        "pinning it",
    )?;
    Ok(Some(how))
}

fn import(system: &dyn System, wanted: &Wanted, archive: &str) -> Result<(), String> {
    let mut arguments = vec!["images", "import"];
    if wanted.by_soci {
        // As nodeadm does: what overlayfs has unpacked is of no use to this snapshotter,
        // and containerd would ask the registry for the layers.
        arguments.extend(["--snapshotter", "soci"]);
        arguments.extend(["--discard-unpacked-layers=false", "--local"]);
    }
    arguments.push(archive);
    must(ctr(system, &arguments)?, "importing it")?;
    if is_complete(system, wanted, None)? {
        return Ok(());
    }
    Err(format!(
        "{archive} does not hold the image {}",
        wanted.image
    ))
}

/// Whether all of an image is there, and unpacked where the snapshotter needs it; only
/// one that matches `besides` counts.
fn is_complete(
    system: &dyn System,
    wanted: &Wanted,
    besides: Option<&str>,
) -> Result<bool, String> {
    let image = wanted.image.as_str();
    let mut filter = format!("name=={image}");
    if let Some(besides) = besides {
        filter.push(',');
        filter.push_str(besides);
    }
    let mut arguments = vec!["images", "check"];
    if wanted.by_soci {
        arguments.extend(["--snapshotter", "soci"]);
    }
    arguments.push(&filter);
    let listing = must(ctr(system, &arguments)?, "asking for it")?;
    // A heading, then name, type, digest, status and more; at last whether it is unpacked.
    Ok(listing.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.first() == Some(&image)
            && words.get(3) == Some(&"complete")
            && (!wanted.by_soci || words.last() == Some(&"true"))
    }))
}

fn ctr(system: &dyn System, arguments: &[&str]) -> Result<Ended, String> {
    run(system, &task(arguments))
}

fn task(arguments: &[&str]) -> Task {
    Task::new("ctr", &["--namespace", NAMESPACE], LIMIT).and(arguments)
}

fn run(system: &dyn System, task: &Task) -> Result<Ended, String> {
    system.run(task).map_err(|error| error.to_string())
}

fn must(ended: Ended, doing: &str) -> Result<String, String> {
    if ended.success {
        return Ok(ended.output);
    }
    let reason = ended.errors.lines().next_back().unwrap_or_default().trim();
    Err(format!("the pause image: {doing} failed: {reason}"))
}
