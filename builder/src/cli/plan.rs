//! `nodekiln plan`.

use clap::Args;
use nodekiln::build::{self, Request};
use nodekiln::{Result, plan};
use serde::Serialize;

use super::Context;
use super::build::Baking;
use super::inputs::{self, ProfileArgument, StoreArguments};

/// Show what a build would change in the base, without writing anything
#[derive(Debug, Args)]
pub struct Plan {
    #[command(flatten)]
    profile: ProfileArgument,
    #[command(flatten)]
    store: StoreArguments,
    #[command(flatten)]
    baking: Baking,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    key: String,
    plan: plan::Plan,
    #[serde(skip)]
    text: String,
}

impl Plan {
    pub fn run(&self, context: &Context) -> Result<()> {
        let loaded = self.profile.load()?;
        let locked = inputs::locked(&loaded)?;
        let store = self.store.open()?;
        let request = Request {
            loaded: &loaded,
            locked: &locked,
            store: &store,
            firstboot: self.baking.firstboot(),
            engine: self.baking.engine(),
            allow_unsupported: self.baking.allow_unsupported,
        };
        let mut prepared = build::prepare(&request, context.reporter.as_ref())?;
        prepared.verify_base()?;
        let changes = plan::text::changes(&prepared.plan, &mut prepared.image)?;
        let shown = Shown {
            key: prepared.plan.key().to_string(),
            text: plan::text::render(&prepared.plan, &changes),
            plan: prepared.plan,
        };
        context.printer.result(&shown, |shown| shown.text.clone())
    }
}
