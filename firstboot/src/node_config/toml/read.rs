//! Text to trees. The grammar is that of the parser; here the rules follow that it
//! leaves open: which names may be given again, how deep, how large numbers are.

use std::borrow::Cow;
use std::collections::BTreeMap;

use toml_parser::decoder::{Encoding, ScalarKind};
use toml_parser::parser::{EventReceiver, parse_document};
use toml_parser::{ErrorSink, ParseError, Raw, Source, Span};

use super::{DEEPEST, Item, Table, TomlError};

pub(super) fn parse(text: &str) -> Result<Table, TomlError> {
    let tokens = Source::new(text).lex().into_vec();
    let mut builder = Builder::new(text);
    let mut first = First::default();
    parse_document(&tokens, &mut builder, &mut first);
    let problems = [first.0, builder.problem].into_iter().flatten();
    match problems.min_by_key(|(place, _)| *place) {
        None => Ok(table(builder.root)),
        Some((place, problem)) => {
            let before = text.get(..place).unwrap_or(text);
            let line_start = before.rfind('\n').map_or(0, |index| index + 1);
            Err(TomlError {
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
                problem,
            })
        }
    }
}

/// The first problem, and where.
#[derive(Default)]
struct First(Option<(usize, String)>);

impl ErrorSink for First {
    fn report_error(&mut self, error: ParseError) {
        if self.0.is_none() {
            let place = error.unexpected().or(error.context());
            self.0 = Some((
                place.map_or(0, |span| span.start()),
                error.description().to_owned(),
            ));
        }
    }
}

/// A value while it is being read.
enum Draft {
    Item(Item),
    /// `[a, b]`: complete.
    Array(Vec<Draft>),
    /// `[[a]]`: more may follow.
    Tables(Vec<DraftTable>),
    Table(DraftTable),
}

/// A table while it is being read.
#[derive(Default)]
struct DraftTable {
    entries: BTreeMap<String, Draft>,
    origin: Origin,
}

/// How a table came to be, which decides who may add to it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Origin {
    /// Named on the way to another.
    #[default]
    Implicit,
    /// By a header of its own.
    Header,
    /// By a dotted name.
    Dotted,
    /// Between braces: complete.
    Inline,
}

fn table(draft: DraftTable) -> Table {
    let entries = draft.entries.into_iter();
    entries.map(|(name, draft)| (name, item(draft))).collect()
}

fn item(draft: Draft) -> Item {
    match draft {
        Draft::Item(item) => item,
        Draft::Array(items) => Item::Array(items.into_iter().map(item).collect()),
        Draft::Tables(tables) => Item::Array(
            tables
                .into_iter()
                .map(|it| Item::Table(table(it)))
                .collect(),
        ),
        Draft::Table(inner) => Item::Table(table(inner)),
    }
}

/// What is open between brackets or braces, with the name that waits for its value.
enum Open {
    Array(Vec<Draft>),
    Inline(DraftTable, Vec<String>),
}

struct Builder<'a> {
    text: &'a str,
    root: DraftTable,
    /// Way from the root to the table that the last header opened.
    section: Vec<String>,
    /// The name that is being read.
    name: Vec<String>,
    open: Vec<Open>,
    problem: Option<(usize, String)>,
}

impl<'a> Builder<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            root: DraftTable::default(),
            section: Vec::new(),
            name: Vec::new(),
            open: Vec::new(),
            problem: None,
        }
    }

    fn refuse(&mut self, span: Span, problem: &str) {
        if self.problem.is_none() {
            self.problem = Some((span.start(), problem.into()));
        }
    }

    fn raw(&self, span: Span, encoding: Option<Encoding>) -> Raw<'a> {
        let text = self.text.get(span.start()..span.end()).unwrap_or_default();
        Raw::new_unchecked(text, encoding, span)
    }

    /// Nesting so far.
    fn depth(&self) -> usize {
        let inline: usize = self
            .open
            .iter()
            .map(|open| match open {
                Open::Array(_) => 1,
                Open::Inline(_, name) => 1 + name.len(),
            })
            .sum();
        self.section.len() + self.name.len() + inline
    }

    fn header(&mut self, span: Span, is_of_tables: bool) {
        let path = std::mem::take(&mut self.name);
        if let Err(problem) = open_section(&mut self.root, &path, is_of_tables) {
            self.refuse(span, problem);
        }
        self.section = path;
    }

    /// Puts a complete value where it belongs.
    fn put(&mut self, span: Span, draft: Draft) {
        let outcome = match self.open.last_mut() {
            Some(Open::Array(items)) => {
                items.push(draft);
                Ok(())
            }
            Some(Open::Inline(table, _)) => {
                let name = std::mem::take(&mut self.name);
                insert(table, &name, draft)
            }
            None => {
                let name = std::mem::take(&mut self.name);
                match section(&mut self.root, &self.section) {
                    Some(table) => insert(table, &name, draft),
                    // Its header was refused already.
                    None => Ok(()),
                }
            }
        };
        if let Err(problem) = outcome {
            self.refuse(span, problem);
        }
    }

    fn may_open(&mut self, span: Span) -> bool {
        if self.depth() >= DEEPEST {
            self.refuse(span, TOO_DEEP);
            return false;
        }
        true
    }
}

const TOO_DEEP: &str = "tables and arrays are nested more than 32 deep";
const TWICE: &str = "the name is given twice";
const COMPLETE: &str = "the name stands for something that cannot be added to";

/// Opens the table of a header, and those on the way to it.
fn open_section(
    root: &mut DraftTable,
    path: &[String],
    is_of_tables: bool,
) -> Result<(), &'static str> {
    let Some((last, way)) = path.split_last() else {
        return Err("a header without a name");
    };
    let parent = way.iter().try_fold(root, |table, name| {
        let entry = table.entries.entry(name.clone());
        match entry.or_insert_with(|| Draft::Table(DraftTable::default())) {
            Draft::Table(inner) if inner.origin != Origin::Inline => Ok(inner),
            Draft::Tables(tables) => tables.last_mut().ok_or(COMPLETE),
            _ => Err(COMPLETE),
        }
    })?;
    let new = DraftTable {
        origin: Origin::Header,
        ..DraftTable::default()
    };
    match (parent.entries.get_mut(last), is_of_tables) {
        (None, false) => {
            parent.entries.insert(last.clone(), Draft::Table(new));
        }
        (None, true) => {
            parent
                .entries
                .insert(last.clone(), Draft::Tables(vec![new]));
        }
        (Some(Draft::Tables(tables)), true) => tables.push(new),
        (Some(Draft::Table(table)), false) if table.origin == Origin::Implicit => {
            table.origin = Origin::Header;
        }
        _ => return Err(TWICE),
    }
    Ok(())
}

/// The table at the end of a way that was opened before.
fn section<'a>(root: &'a mut DraftTable, path: &[String]) -> Option<&'a mut DraftTable> {
    path.iter()
        .try_fold(root, |table, name| match table.entries.get_mut(name)? {
            Draft::Table(inner) => Some(inner),
            Draft::Tables(tables) => tables.last_mut(),
            _ => None,
        })
}

/// Puts a value at a name, which may be dotted.
fn insert(table: &mut DraftTable, name: &[String], draft: Draft) -> Result<(), &'static str> {
    let Some((last, way)) = name.split_last() else {
        return Err("a value without a name");
    };
    let parent = way.iter().try_fold(table, |table, name| {
        let entry = table.entries.entry(name.clone());
        let new = || {
            Draft::Table(DraftTable {
                origin: Origin::Dotted,
                ..DraftTable::default()
            })
        };
        match entry.or_insert_with(new) {
            Draft::Table(inner) if inner.origin == Origin::Dotted => Ok(inner),
            _ => Err(COMPLETE),
        }
    })?;
    if parent.entries.contains_key(last) {
        return Err(TWICE);
    }
    parent.entries.insert(last.clone(), draft);
    Ok(())
}

/// A value that is one word; `Err` says what is wrong with it.
fn scalar(kind: ScalarKind, text: &str) -> Result<Item, &'static str> {
    Ok(match kind {
        ScalarKind::String => Item::Text(text.to_owned()),
        ScalarKind::Boolean(value) => Item::Plain(value.to_string()),
        ScalarKind::Integer(radix) => {
            let number = i64::from_str_radix(text, radix.value())
                .map_err(|_| "the number does not fit into 64 bits")?;
            Item::Plain(number.to_string())
        }
        ScalarKind::Float => {
            let is_number = text.parse::<f64>().is_ok();
            is_number.then_some(()).ok_or("the number cannot be read")?;
            Item::Plain(text.to_owned())
        }
        ScalarKind::DateTime => {
            text.parse::<toml_datetime::Datetime>()
                .map_err(|_| "the date cannot be read")?;
            Item::Plain(text.to_owned())
        }
    })
}

impl EventReceiver for Builder<'_> {
    fn std_table_open(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.section.clear();
        self.name.clear();
    }

    fn std_table_close(&mut self, span: Span, _: &mut dyn ErrorSink) {
        self.header(span, false);
    }

    fn array_table_open(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.section.clear();
        self.name.clear();
    }

    fn array_table_close(&mut self, span: Span, _: &mut dyn ErrorSink) {
        self.header(span, true);
    }

    fn inline_table_open(&mut self, span: Span, _: &mut dyn ErrorSink) -> bool {
        if !self.may_open(span) {
            return false;
        }
        let table = DraftTable {
            origin: Origin::Inline,
            ..DraftTable::default()
        };
        let name = std::mem::take(&mut self.name);
        self.open.push(Open::Inline(table, name));
        true
    }

    fn inline_table_close(&mut self, span: Span, _: &mut dyn ErrorSink) {
        if let Some(Open::Inline(table, name)) = self.open.pop() {
            self.name = name;
            self.put(span, Draft::Table(table));
        }
    }

    fn array_open(&mut self, span: Span, _: &mut dyn ErrorSink) -> bool {
        if !self.may_open(span) {
            return false;
        }
        self.open.push(Open::Array(Vec::new()));
        true
    }

    fn array_close(&mut self, span: Span, _: &mut dyn ErrorSink) {
        if let Some(Open::Array(items)) = self.open.pop() {
            self.put(span, Draft::Array(items));
        }
    }

    fn simple_key(&mut self, span: Span, encoding: Option<Encoding>, error: &mut dyn ErrorSink) {
        if self.depth() >= DEEPEST {
            self.refuse(span, TOO_DEEP);
            return;
        }
        let mut name = Cow::Borrowed("");
        self.raw(span, encoding).decode_key(&mut name, error);
        self.name.push(name.into_owned());
    }

    fn scalar(&mut self, span: Span, encoding: Option<Encoding>, error: &mut dyn ErrorSink) {
        let mut text = Cow::Borrowed("");
        let kind = self.raw(span, encoding).decode_scalar(&mut text, error);
        match scalar(kind, &text) {
            Ok(item) => self.put(span, Draft::Item(item)),
            Err(problem) => {
                self.refuse(span, problem);
                self.name.clear();
            }
        }
    }

    fn comment(&mut self, span: Span, error: &mut dyn ErrorSink) {
        self.raw(span, None).decode_comment(error);
    }

    fn newline(&mut self, span: Span, error: &mut dyn ErrorSink) {
        self.raw(span, None).decode_newline(error);
        // After a problem a name may be left over.
        if self.open.is_empty() {
            self.name.clear();
        }
    }
}
