//! The image that every pod starts with, out of this machine's own image.

use std::time::Duration;

use super::Error;
use super::journal::digest;
use super::steps::Node;
use super::work::Work;
use crate::system::{Ended, System, Task};

/// Archives that an image may bring: ours, and the one of Amazon's EC2 images.
const ARCHIVES: [&str; 2] = ["/etc/nodekiln/sandbox-image.tar", "/etc/eks/pause.tar"];

/// The namespace in containerd of everything that the kubelet uses.
const NAMESPACE: &str = "k8s.io";

/// Keeps the kubelet from removing an image (containerd, `internal/cri/labels`).
const PINNED: &str = "io.cri-containerd.pinned=pinned";

/// Time for one answer of containerd, and for an import.
const LIMIT: Duration = Duration::from_secs(120);

/// Digest of what is to be there; empty when the image brings none.
pub(super) fn inputs(node: &Node<'_>) -> String {
    let image = node.facts.sandbox_image.as_ref();
    image.map_or_else(String::new, |image| digest([image.as_bytes()]))
}

/// Makes sure that the pause image is in containerd's store. A node without it is
/// not lost, it may still pull it: so nothing here stops the work.
pub(super) fn provide(work: &mut Work<'_>, node: &Node<'_>, _: &str) -> Result<(), Error> {
    let Some(image) = &node.facts.sandbox_image else {
        return Ok(());
    };
    match import(work, image) {
        Ok(true) => work.info(&format!("the pause image {image} was imported")),
        Ok(false) => {}
        Err(problem) => work.warn(&format!(
            "{problem}: containerd pulls {image} when the first pod starts, if it can"
        )),
    }
    Ok(())
}

/// Says whether it had to be imported, or what is wrong.
fn import(work: &Work<'_>, image: &str) -> Result<bool, String> {
    let system = work.system;
    if is_complete(system, image)? {
        return Ok(false);
    }
    let archive = ARCHIVES
        .into_iter()
        .find(|path| system.resolve(path).is_some());
    let Some(archive) = archive else {
        return Err(format!(
            "the pause image is neither in containerd's store nor at {}",
            ARCHIVES[0]
        ));
    };
    must(ctr(system, &["images", "import", archive])?, "importing it")?;
    if !is_complete(system, image)? {
        return Err(format!("{archive} does not hold the image {image}"));
    }
    must(
        ctr(system, &["images", "label", image, PINNED])?,
        "pinning it",
    )?;
    Ok(true)
}

/// Whether all of an image is there.
fn is_complete(system: &dyn System, image: &str) -> Result<bool, String> {
    let filter = format!("name=={image}");
    let ended = ctr(system, &["images", "check", &filter])?;
    let listing = must(ended, "asking for it")?;
    // A heading, then name, type, digest, status and more.
    Ok(listing.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some(image) && words.nth(2) == Some("complete")
    }))
}

fn ctr(system: &dyn System, arguments: &[&str]) -> Result<Ended, String> {
    let task = Task::new("ctr", &["--namespace", NAMESPACE], LIMIT).and(arguments);
    system.run(&task).map_err(|error| error.to_string())
}

fn must(ended: Ended, doing: &str) -> Result<String, String> {
    if ended.success {
        return Ok(ended.output);
    }
    let reason = ended.errors.lines().next_back().unwrap_or_default().trim();
    Err(format!("the pause image: {doing} failed: {reason}"))
}
