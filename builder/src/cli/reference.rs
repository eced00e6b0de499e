//! `nodekiln reference`: the command line as Markdown, for `docs/`.

use std::fmt::Write as _;

use clap::Args;
use nodekiln::Result;

use super::{Context, Printer, definition};

/// Print the command line's reference as Markdown
#[derive(Debug, Args)]
pub struct Reference {}

impl Reference {
    #[expect(clippy::unused_self, reason = "every verb has the same shape")]
    pub fn run(&self, _: &Context) -> Result<()> {
        let mut command = definition().term_width(100);
        command.build();
        let mut text = String::from(
            "# The command line\n\n<!-- Made by `make docs`; edit builder/src/cli/ instead. -->\n",
        );
        let mut section = |title: &str, help: &str| {
            // Writing into a String cannot fail.
            write!(text, "\n## {title}\n\n```text\n{}\n```\n", help.trim_end()).ok();
        };
        section("nodekiln", &command.render_long_help().to_string());
        for verb in command
            .get_subcommands_mut()
            .filter(|verb| !verb.is_hide_set())
        {
            let title = format!("nodekiln {}", verb.get_name());
            section(&title, &verb.render_long_help().to_string());
        }
        Printer::bytes(text.as_bytes())
    }
}
