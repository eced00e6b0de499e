//! Bad input through the command, as a user meets it: every refusal has its exit
//! code and one error that says what is wrong with what, and leaves nothing.

mod components;
mod ext4;
mod fat;
mod gpt;
mod images;
mod node_config;
mod output;
mod overlays;
mod profile;
mod qcow2;
mod store;

use std::path::Path;

use nodekiln_tests::damage;

/// A workshop with a whole base that is kept, so that one after the other can be
/// damaged in its place.
struct Bases {
    workshop: nodekiln_tests::command::Workshop,
}

impl Bases {
    fn new() -> Self {
        let workshop = nodekiln_tests::command::Workshop::new();
        let whole = workshop.path("whole.raw");
        std::fs::rename(workshop.path("base.raw"), whole).expect("renames");
        Self { workshop }
    }

    /// The whole base, copied to `base.raw`, where `harm` changes it.
    fn harmed(&self, harm: impl FnOnce(&Path)) -> &nodekiln_tests::command::Workshop {
        let base = self.workshop.path("base.raw");
        std::fs::remove_file(&base).ok();
        damage::copy(&self.workshop.path("whole.raw"), &base);
        harm(&base);
        &self.workshop
    }
}
