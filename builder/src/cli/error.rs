//! Errors as the user sees them, and the exit code of each class.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use nodekiln::{Class, Error};

use super::{Printer, stop};

const RED: Style = AnsiColor::Red.on_default().bold();
const CYAN: Style = AnsiColor::Cyan.on_default().bold();
const DIM: Style = Style::new().dimmed();

/// The exit code of a class.
pub fn code(class: Class) -> u8 {
    match class {
        Class::Internal => 1,
        Class::Input => 2,
        Class::Unsupported => 3,
        Class::Environment => 4,
        Class::Dependency => 5,
        Class::Transient => 6,
        Class::CheckFailed => 7,
        Class::Interrupted => stop::INTERRUPTED,
    }
}

/// Prints a usage error, or the help that was asked for.
pub fn usage(error: &clap::Error) -> ExitCode {
    // Nothing can be done when even this cannot be printed.
    error.print().ok();
    if error.use_stderr() {
        ExitCode::from(2)
    } else {
        ExitCode::SUCCESS
    }
}

/// Prints the error with everything that was found in the same pass.
pub fn report(printer: &Printer, error: &Error) -> ExitCode {
    let mut text = String::new();
    render(error, &mut text);
    for other in error.others() {
        render(other, &mut text);
    }
    let count = 1 + error.others().len();
    if count > 1 {
        writeln!(text, "{DIM}{count} problems{DIM:#}").ok();
    }
    printer.raw_message(&text);
    ExitCode::from(code(error.class()))
}

fn render(error: &Error, text: &mut String) {
    // Writing into a String cannot fail.
    writeln!(text, "{RED}error{RED:#}: {error}").ok();
    if let Some(place) = error.place() {
        let number = place.line.to_string();
        let margin = " ".repeat(number.len());
        let source: String = place.source.chars().take(160).collect();
        let pad: String = source
            .chars()
            .take(place.column.saturating_sub(1))
            .map(|character| if character == '\t' { '\t' } else { ' ' })
            .collect();
        writeln!(text, " {DIM}{margin} |{DIM:#}").ok();
        writeln!(text, " {DIM}{number} |{DIM:#} {source}").ok();
        writeln!(text, " {DIM}{margin} |{DIM:#} {pad}{RED}^{RED:#}").ok();
    }
    let mut cause = std::error::Error::source(error);
    while let Some(current) = cause {
        let mut lines = current.to_string();
        if lines.contains('\n') {
            lines = lines.trim_end().replace('\n', "\n             ");
        }
        writeln!(text, "  caused by: {lines}").ok();
        cause = current.source();
    }
    if let Some(hint) = error.hint_text() {
        writeln!(text, "  {CYAN}hint:{CYAN:#} {hint}").ok();
    }
}

/// The error as JSON, for `--progress json`.
pub fn to_json(error: &Error) -> serde_json::Value {
    let mut causes = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(current) = cause {
        causes.push(current.to_string());
        cause = current.source();
    }
    serde_json::json!({
        "class": format!("{:?}", error.class()),
        "code": code(error.class()),
        "message": error.message(),
        "place": error.place().map(|place| serde_json::json!({
            "file": place.file, "line": place.line, "column": place.column,
        })),
        "causes": causes,
        "hint": error.hint_text(),
        "others": error.others().iter().map(to_json).collect::<Vec<_>>(),
    })
}

/// Writes to standard error, which may be closed.
pub fn stderr(text: &str) {
    let mut stream = anstream::stderr().lock();
    stream
        .write_all(text.as_bytes())
        .and_then(|()| stream.flush())
        .ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use nodekiln::error::Place;

    fn plain(error: &Error) -> String {
        let mut text = String::new();
        render(error, &mut text);
        anstream::adapter::strip_str(&text).to_string()
    }

    #[test]
    fn shows_place_cause_and_hint() {
        let error = Error::input("unknown key 'kubelets'")
            .at(Place {
                file: "p.yaml".into(),
                line: 12,
                column: 5,
                source: "    kubelets: {}".into(),
            })
            .caused_by(std::io::Error::other("deep"))
            .hint("did you mean 'kubelet'?");
        assert_eq!(
            plain(&error),
            "error: p.yaml:12:5: unknown key 'kubelets'\n    |\n 12 |     kubelets: {}\n    |     ^\n  \
             caused by: deep\n  hint: did you mean 'kubelet'?\n"
        );
    }

    #[test]
    fn every_class_has_its_code() {
        let codes: Vec<u8> = [
            Class::Internal,
            Class::Input,
            Class::Unsupported,
            Class::Environment,
            Class::Dependency,
            Class::Transient,
            Class::CheckFailed,
            Class::Interrupted,
        ]
        .map(code)
        .to_vec();
        assert_eq!(codes, [1, 2, 3, 4, 5, 6, 7, 130]);
    }
}
