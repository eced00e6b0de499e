//! The checks before joining, as phases of it: those before anything of the node is
//! written, and the one that needs what was written.
//!
//! A machine that joined is not checked again while nothing changes: a network that
//! is down must not keep a node from starting.

use std::time::Duration;

use super::journal::digest;
use super::steps::Node;
use super::work::{Patience, Work};
use super::{Error, Phase, files};
use crate::render::Part;
use crate::validation::{self, LIMIT, Moment, Report, Subject, Verdict};

/// A network that comes up slowly has this long; each run of the checks may take
/// [`LIMIT`].
const PATIENCE: Patience = Patience {
    first: Duration::from_secs(5),
    longest: Duration::from_secs(20),
    budget: Duration::from_secs(120),
};

/// Digest of what is checked.
pub(super) fn inputs(node: &Node<'_>) -> String {
    let config = serde_json::to_vec(node.config)
        .expect("a NodeConfig of text and numbers can always be written to memory");
    let kubelet = node.facts.kubelet.to_string();
    digest([
        config.as_slice(),
        files::inputs(node).as_bytes(),
        kubelet.as_bytes(),
    ])
}

/// Checks the machine before the node's files are written.
pub(super) fn before(work: &mut Work<'_>, node: &Node<'_>, inputs: &str) -> Result<(), Error> {
    check(work, node, inputs, Phase::Validation, Moment::Before)
}

/// Digest of what the node shows to the cluster.
pub(super) fn authentication_inputs(node: &Node<'_>) -> String {
    let parts = [Part::Credentials, Part::Kubelet].map(|part| node.digest_of(part));
    digest(parts.iter().map(String::as_bytes))
}

/// Checks that the cluster knows the node, as the kubelet will show it.
pub(super) fn written(work: &mut Work<'_>, node: &Node<'_>, inputs: &str) -> Result<(), Error> {
    check(work, node, inputs, Phase::Authentication, Moment::Written)
}

fn check(
    work: &mut Work<'_>,
    node: &Node<'_>,
    inputs: &str,
    phase: Phase,
    moment: Moment,
) -> Result<(), Error> {
    if work.journal.is_done(phase, inputs) {
        return Ok(());
    }
    for remark in &node.skips.remarks {
        work.warn(remark);
    }
    let mut last = Report::default();
    let outcome = work.patiently(phase, PATIENCE, |work| {
        let subject = Subject {
            system: work.system,
            config: node.config,
            facts: node.facts,
            variables: node.variables,
            cluster: node.cluster,
            undescribed: None,
            cloud: node.cloud,
            deadline: work.system.elapsed() + LIMIT,
        };
        last = validation::run(&subject, moment, node.skips);
        Ok(last.verdict()?)
    });
    tell(work, &last);
    outcome
}

/// The whole table to the log; what stops the join to the console as well.
fn tell(work: &Work<'_>, report: &Report) {
    for line in report.table().lines() {
        work.info(line);
    }
    for outcome in &report.outcomes {
        if outcome.verdict != Verdict::Failed {
            continue;
        }
        let mut text = format!("check {} failed: {}", outcome.name, outcome.detail);
        if let Some(hint) = &outcome.hint {
            text.push_str("; hint: ");
            text.push_str(hint);
        }
        work.system.milestone(&text);
    }
}
