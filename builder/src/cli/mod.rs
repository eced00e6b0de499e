//! The command line: the only place that knows of arguments, printing and exit
//! codes. One file a verb; each verb turns its arguments into plain values,
//! calls the library and prints what comes back.

mod boot;
mod build;
mod cloud_config;
mod completion;
mod convert;
mod doctor;
mod error;
mod fetch;
mod init;
mod inputs;
mod lock;
mod man;
mod plan;
mod printer;
mod progress;
mod reference;
mod schema;
mod seed;
mod stop;
mod validate;
mod verify;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use nodekiln::Result;

pub use printer::Printer;
pub use progress::Reporter;

/// Bakes Kubernetes node images from disk images that somebody else made,
/// without root and without booting them.
#[derive(Debug, Parser)]
#[command(
    name = "nodekiln",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
#[command(after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

/// Shown below every `--help` of the command itself.
const EXIT_CODES: &str = "Exit codes: 0 done; 1 internal error; 2 bad input or usage; \
3 not supported; 4 environment (space, permissions, a missing tool); 5 dependency (checksum, \
signature, not found); 6 transient error, safe to retry; 7 a check of the image failed; \
130 interrupted";

/// Options of every verb.
#[derive(Debug, Clone, clap::Args)]
pub struct Globals {
    /// How results are written to standard output.
    #[arg(long, global = true, value_enum, default_value_t = ResultFormat::Text, value_name = "FORMAT")]
    pub format: ResultFormat,
    /// How progress is shown on standard error; `auto` draws bars on a terminal
    /// and plain lines elsewhere.
    #[arg(long, global = true, value_enum, default_value_t = ProgressMode::Auto, value_name = "MODE")]
    pub progress: ProgressMode,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ResultFormat {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// Bars on a terminal, plain lines elsewhere.
    Auto,
    /// A line when a step begins and ends.
    Plain,
    /// JSON Lines (`nodekiln schema progress`).
    Json,
    /// Nothing but warnings and errors.
    None,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Init(init::Init),
    Validate(validate::Validate),
    Lock(lock::Lock),
    Fetch(fetch::Fetch),
    Plan(plan::Plan),
    Build(build::Build),
    Convert(convert::Convert),
    Verify(verify::Verify),
    Seed(seed::Seed),
    Boot(boot::Boot),
    Doctor(doctor::Doctor),
    Schema(schema::Schema),
    Completion(completion::Completion),
    Man(man::Man),
    #[command(hide = true)]
    Reference(reference::Reference),
}

/// What every verb gets beside its own arguments.
#[derive(Debug, Clone)]
pub struct Context {
    /// Results and messages.
    pub printer: Printer,
    /// Progress, with the stop flag.
    pub reporter: Arc<Reporter>,
}

/// Parses the arguments, runs the verb, prints its error, gives the exit code.
pub fn main() -> ExitCode {
    // What a volume turns into an error is told once, as that error.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !nodekiln::volume::panics_are_errors() {
            usual(panic);
        }
    }));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => return error::usage(&usage),
    };
    let printer = Printer::new(cli.globals.format);
    let stop = match stop::Stop::install() {
        Ok(stop) => stop,
        Err(problem) => return error::report(&printer, &problem),
    };
    let reporter = Arc::new(Reporter::new(cli.globals.progress, stop));
    let context = Context {
        printer: printer.clone(),
        reporter: Arc::clone(&reporter),
    };
    let outcome = run(&cli.verb, &context);
    reporter.finish();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            if reporter.failed(&problem) {
                return ExitCode::from(error::code(problem.class()));
            }
            error::report(&printer, &problem)
        }
    }
}

fn run(verb: &Verb, context: &Context) -> Result<()> {
    match verb {
        Verb::Init(verb) => verb.run(context),
        Verb::Validate(verb) => verb.run(context),
        Verb::Lock(verb) => verb.run(context),
        Verb::Fetch(verb) => verb.run(context),
        Verb::Plan(verb) => verb.run(context),
        Verb::Build(verb) => verb.run(context),
        Verb::Convert(verb) => verb.run(context),
        Verb::Verify(verb) => verb.run(context),
        Verb::Seed(verb) => verb.run(context),
        Verb::Boot(verb) => verb.run(context),
        Verb::Doctor(verb) => verb.run(context),
        Verb::Schema(verb) => verb.run(context),
        Verb::Completion(verb) => verb.run(context),
        Verb::Man(verb) => verb.run(context),
        Verb::Reference(verb) => verb.run(context),
    }
}

/// The definition of the whole command line: parser, help, man pages,
/// completions and the reference are all made from it.
pub fn definition() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definition_is_sound() {
        definition().debug_assert();
    }

    #[test]
    fn help_fits_eighty_columns() {
        let mut command = definition().term_width(80);
        command.build();
        let mut helps = vec![command.render_long_help().to_string()];
        for verb in command.get_subcommands_mut() {
            helps.push(verb.clone().term_width(80).render_long_help().to_string());
        }
        for line in helps.iter().flat_map(|help| help.lines()) {
            assert!(line.chars().count() <= 80, "too wide: {line}");
        }
    }
}
