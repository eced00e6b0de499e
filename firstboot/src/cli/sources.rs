//! `firstboot sources`: what every place holds where a NodeConfig can lie. It asks
//! as `firstboot run` does, and changes nothing.

use nodekiln_firstboot::datasource::{self, LinuxMachine, Source, Survey};
use nodekiln_firstboot::phases::Error;
use nodekiln_firstboot::system::{Linux, Variables};

use super::{Failure, Options, print};

/// The options of a search, for all commands that search.
pub(super) fn options(options: &Options) -> Result<datasource::Options, Failure> {
    let datasource = match &options.datasource {
        None => None,
        Some(_) if options.config.is_some() => {
            let message = "--config and --datasource exclude each other";
            return Err(Failure::usage(message));
        }
        Some(name) => {
            let name = name.to_string_lossy();
            let unknown = || Failure {
                hint: Some(format!("data sources are: {}", Source::names())),
                ..Failure::usage(format!("there is no data source {name:?}"))
            };
            Some(Source::named(&name).ok_or_else(unknown)?)
        }
    };
    Ok(datasource::Options {
        config: options.config.clone(),
        datasource,
        variables: Variables::from_process(),
    })
}

/// Shows what every source says; the exit code is that of the search.
pub(super) fn run(command: &Options) -> Result<u8, Failure> {
    let search = options(command)?;
    let survey = datasource::survey(&search, &LinuxMachine::default(), &Linux::new());
    let text = if command.json {
        let text = serde_json::to_string_pretty(&survey.reports)
            .map_err(|error| Failure::new(1, error.to_string()))?;
        format!("{text}\n")
    } else {
        table(&survey)
    };
    print(&text)?;
    match survey.outcome {
        Ok(_) => Ok(0),
        Err(error) => {
            let error = Error::NotFound(error);
            Err(Failure {
                code: error.exit_code(),
                // What was tried stands in the table already.
                message: error.to_string(),
                hint: error.hint(),
            })
        }
    }
}

/// One line a source: its name, what became of it, and what it said.
fn table(survey: &Survey) -> String {
    let mut text = String::new();
    for report in &survey.reports {
        let (name, outcome) = (report.source.name(), report.outcome.replace('\n', " "));
        text.push_str(&format!("{name:<13} {:<10} {outcome}\n", report.state));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use nodekiln_firstboot::datasource::{FindError, Report, State};

    use super::*;

    fn named(name: &str) -> Options {
        Options {
            datasource: Some(PathBuf::from(name)),
            ..Options::default()
        }
    }

    #[test]
    fn a_source_is_named_and_a_wrong_name_lists_all() {
        let search = options(&named("ec2")).map_err(|error| error.message);
        assert_eq!(search.unwrap().datasource, Some(Source::Ec2));
        let failure = options(&named("imds")).err().unwrap();
        assert_eq!(failure.code, 2);
        assert_eq!(failure.message, "there is no data source \"imds\"");
        let hint = failure.hint.unwrap();
        assert!(Source::NAMEABLE.iter().all(|it| hint.contains(it.name())));
        let both = Options {
            config: Some(PathBuf::from("/a")),
            ..named("ec2")
        };
        assert_eq!(options(&both).err().unwrap().code, 2);
    }

    #[test]
    fn every_source_has_a_line() {
        let report = |source, state, outcome: &str| Report {
            source,
            state,
            outcome: outcome.to_owned(),
        };
        let survey = Survey {
            reports: vec![
                report(Source::CloudInit, State::Nothing, "no file"),
                report(Source::NoCloud, State::Unusable, "two\nlines"),
            ],
            outcome: Err(FindError::NotFound { tried: Vec::new() }),
        };
        assert_eq!(
            table(&survey),
            "cloud-init    nothing    no file\nnocloud       unusable   two lines\n"
        );
    }
}
