//! Renders the templates in the strings of `spec`.
//!
//! Rendering works on the parsed tree, not on the file's text: a value can never
//! change the structure of the profile, and every position stays that of the
//! source.
//!
//! The language is Jinja's expressions, without statements and with few filters
//! ([`FILTERS`]). What is left cannot loop, and cannot make a text that is much
//! longer than its template, so a hostile profile costs neither time nor memory.
//! Overlay files have the whole language.

use std::collections::BTreeMap;

use minijinja::{Environment, UndefinedBehavior};

use super::nearest::nearest;
use super::tree::{Kind, Node, Position, Scalar, Source, Value, shortened};
use crate::error::Error;

/// Instructions of the template engine per string: bounds loops.
const FUEL: u64 = 20_000;
/// Bytes of one rendered string at most.
const LENGTH_LIMIT: usize = 64 << 10;

/// Renders every string below `node` in place and gives what failed.
pub(super) fn render(
    node: &mut Node,
    variables: &BTreeMap<String, String>,
    source: &Source,
) -> Vec<Error> {
    let mut renderer = Renderer {
        environment: environment(),
        variables,
        source,
        problems: Vec::new(),
    };
    renderer.node(node);
    renderer.problems
}

/// Whether a text has a template in it.
pub(super) fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark))
}

/// The filters that can be used.
const FILTERS: &str = "upper, lower, trim, default, replace";

fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.add_filter("upper", minijinja::filters::upper);
    environment.add_filter("lower", minijinja::filters::lower);
    environment.add_filter("trim", minijinja::filters::trim);
    environment.add_filter("default", minijinja::filters::default);
    environment.add_filter("replace", replace);
    environment.add_test("defined", minijinja::tests::is_defined);
    environment.add_test("undefined", minijinja::tests::is_undefined);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_debug(true);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(20);
    if let Ok(syntax) = minijinja::syntax::SyntaxConfig::builder()
        .keep_trailing_newline(true)
        .build()
    {
        environment.set_syntax(syntax);
    }
    environment
}

/// As Jinja's `replace`, with a bound: a chain of replacements would otherwise
/// grow by a factor each.
fn replace(text: &str, from: &str, to: &str) -> Result<String, minijinja::Error> {
    let count = text.matches(from).count();
    if text.len() + count.saturating_mul(to.len()) > LENGTH_LIMIT {
        return Err(minijinja::Error::new(
            minijinja::ErrorKind::InvalidOperation,
            "the text grows too long",
        ));
    }
    Ok(text.replace(from, to))
}

struct Renderer<'a> {
    environment: Environment<'static>,
    variables: &'a BTreeMap<String, String>,
    source: &'a Source,
    problems: Vec<Error>,
}

impl Renderer<'_> {
    fn node(&mut self, node: &mut Node) {
        match &mut node.value {
            Value::Null => {}
            Value::Sequence(items) => items.iter_mut().for_each(|item| self.node(item)),
            Value::Mapping(entries) => entries
                .iter_mut()
                .for_each(|entry| self.node(&mut entry.value)),
            Value::Scalar(scalar) => {
                if scalar.kind == Kind::Text && is_template(&scalar.text) {
                    match self.scalar(&scalar.text) {
                        Ok(text) => {
                            *scalar = Scalar {
                                text,
                                kind: Kind::Rendered,
                            }
                        }
                        Err(error) => {
                            let problem = self.problem(&scalar.text, node.position, &error);
                            self.problems.push(problem);
                        }
                    }
                }
            }
        }
    }

    fn scalar(&self, text: &str) -> Result<String, minijinja::Error> {
        if text.contains("{%") {
            return Err(minijinja::Error::new(
                minijinja::ErrorKind::SyntaxError,
                "statements are for overlay files, a profile has expressions only",
            ));
        }
        let context: minijinja::Value = self
            .variables
            .iter()
            .map(|(name, value)| (name.clone(), minijinja::Value::from(value)))
            .collect::<BTreeMap<String, minijinja::Value>>()
            .into();
        let mut rendered = Bounded(Vec::new());
        self.environment
            .template_from_str(text)?
            .render_captured_to(context, &mut rendered)?;
        Ok(String::from_utf8_lossy(&rendered.0).into_owned())
    }

    fn problem(&self, text: &str, start: Position, error: &minijinja::Error) -> Error {
        let kind = error.kind();
        let message = match kind {
            minijinja::ErrorKind::OutOfFuel => "the template does not end".to_owned(),
            minijinja::ErrorKind::WriteFailure => {
                format!("the text is longer than {} KiB", LENGTH_LIMIT >> 10)
            }
            _ => match error.detail() {
                Some(detail) => format!("{kind}: {detail}"),
                None => kind.to_string(),
            },
        };
        let range = error.range();
        let hint = if kind == minijinja::ErrorKind::UndefinedError {
            self.undefined_hint(range.clone().and_then(|range| text.get(range)))
        } else {
            format!(
                "{{{{ NAME }}}} stands for a variable of metadata.variables, and {{{{ 'a' if NAME == \
                 'b' else 'c' }}}} chooses; the filters are {FILTERS}; {{{{ '{{{{' }}}} gives two \
                 braces"
            )
        };
        let offset = range.map_or(0, |range| range.start);
        let position = locate(&self.source.text, start, text, offset, error.line());
        Error::input(format!("render '{}': {message}", shortened(text)))
            .at(self.source.place(position))
            .hint(hint)
    }

    fn undefined_hint(&self, expression: Option<&str>) -> String {
        let name = expression.unwrap_or_default().trim();
        let known = self.variables.keys().map(String::as_str);
        if let Some(near) = nearest(name, known) {
            return format!("did you mean '{near}'?");
        }
        if self.variables.is_empty() {
            return "the profile has no variables: declare them in metadata.variables".to_owned();
        }
        let names: Vec<&str> = self.variables.keys().map(String::as_str).collect();
        format!(
            "declare it in metadata.variables; there are: {}",
            names.join(", ")
        )
    }
}

/// Keeps what is rendered, up to [`LENGTH_LIMIT`].
struct Bounded(Vec<u8>);

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > LENGTH_LIMIT {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Where the character at `offset` of a scalar stands in the source. A scalar's
/// lines are looked up in the source from its first line on, which is right for
/// every style but for double-quoted escapes and folded lines; these give the
/// start of the scalar.
fn locate(
    source: &str,
    start: Position,
    text: &str,
    offset: usize,
    line: Option<usize>,
) -> Position {
    let offset = if text.is_char_boundary(offset) && offset <= text.len() {
        offset
    } else {
        0
    };
    let line_start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
    let (number, line_start) = match line {
        // Errors of the syntax may know a line only.
        Some(number) if offset == 0 && number > 1 => (
            number,
            text.split_inclusive('\n')
                .take(number - 1)
                .map(str::len)
                .sum(),
        ),
        _ => (text[..offset].matches('\n').count() + 1, line_start),
    };
    let column = offset.saturating_sub(line_start);
    let wanted = text[line_start..].lines().next().unwrap_or_default();
    let lines_of_text = text.lines().count() + 2;
    source
        .lines()
        .enumerate()
        .skip(start.line - 1)
        .take(lines_of_text)
        .filter(|(index, _)| *index + 1 >= start.line + number - 1)
        .find_map(|(index, line)| {
            let from = if index + 1 == start.line {
                line.char_indices()
                    .nth(start.column - 1)
                    .map_or(line.len(), |(at, _)| at)
            } else {
                0
            };
            let at = from + line[from..].find(wanted)?;
            let before = line.get(..at + column)?;
            Some(Position {
                line: index + 1,
                column: before.chars().count() + 1,
            })
        })
        .unwrap_or(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render_text(text: &str, variables: &[(&str, &str)]) -> Result<String, Error> {
        let source = Source {
            file: "p.yaml".to_owned(),
            text: text.to_owned(),
        };
        let mut node = source.read().expect("YAML");
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        match render(&mut node, &variables, &source).pop() {
            Some(error) => Err(error),
            None => match &node.entry("a").expect("a").value.value {
                Value::Scalar(scalar) => Ok(scalar.text.clone()),
                other => panic!("{other:?}"),
            },
        }
    }

    #[test]
    fn renders_without_escaping_or_structure() {
        let hostile = [("v", "x: [1]\n&<b>")];
        assert_eq!(
            render_text("a: \"<{{ v }}>\"\n", &hostile).expect("renders"),
            "<x: [1]\n&<b>>"
        );
        assert_eq!(
            render_text("a: |\n  {{ v | upper }}\n", &[("v", "q")]).expect("renders"),
            "Q\n"
        );
        // A value that looks like a template is not rendered again.
        assert_eq!(
            render_text("a: '{{ v }}'", &[("v", "{{ w }}")]).expect("renders"),
            "{{ w }}"
        );
    }

    #[test]
    fn points_at_the_expression() {
        for (text, line, column, hint) in [
            ("a: 'x {{ compnents }}'\n", 1, 10, "'components'"),
            ("a: x/{{ zzz }}\n", 1, 9, "there are: components"),
            ("a: |\n  one\n    é {{ zzz }}\n", 3, 10, "there are"),
            ("b: 1\na: >-\n  {{ zzz }}\n", 3, 6, "there are"),
            ("a: '{{ components'\n", 1, 5, "filters"),
            ("a: '{% include \"x\" %}'\n", 1, 5, "filters"),
            ("a: '{{ range(9) }}'\n", 1, 8, "filters"),
            ("a: '{{ 1 | indent(99) }}'\n", 1, 12, "filters"),
        ] {
            let error = render_text(text, &[("components", "/c")]).expect_err(text);
            let place = error.place().expect("place");
            assert_eq!(place.line, line, "{text:?}: {error}");
            if hint != "filters" {
                assert_eq!(place.column, column, "{text:?}: {error}");
            }
            assert!(
                error.hint_text().expect("hint").contains(hint),
                "{text:?}: {:?}",
                error.hint_text()
            );
        }
    }

    #[test]
    fn bounds_time_and_length() {
        let doubling = " | replace('x', 'xxxxxxxx')".repeat(40);
        let error =
            render_text(&format!("a: \"{{{{ 'x'{doubling} }}}}\""), &[]).expect_err("grows");
        assert!(error.message().contains("too long"), "{error}");
        let error = render_text("a: \"{{ [1] * 90000 }}\"", &[]).expect_err("long list");
        assert!(error.message().contains("longer than"), "{error}");
        let error = render_text("a: \"{{ 'x' * 900000 }}\"", &[]).expect_err("long");
        assert!(error.message().contains("longer than"), "{error}");
    }
}
