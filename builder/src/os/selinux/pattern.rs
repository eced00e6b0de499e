//! The regular expressions of file contexts.
//!
//! libselinux matches them with PCRE2, `^` put in front, `$` behind and `.`
//! taking any byte (`libselinux/src/regex.c`). They are translated for the crate
//! `regex`, which takes linear time whatever an image holds. What PCRE2 has and
//! that crate has not (back references, looking around, possessive repeats) no
//! policy that is known uses; it is refused by name.

use regex::bytes::{Regex, RegexBuilder};

/// Longest expression in bytes; the longest in use has about 200.
const LONGEST: usize = 4096;
/// Most bytes that one compiled expression may take.
const COMPILED: usize = 1 << 16;
/// Most repeats that one may ask for (`{200}`).
const REPEATS: u32 = 255;
/// Depth of groups.
const DEPTH: u32 = 64;

/// What the end of a path is for `$`: its end, or a line break there.
const END: &str = r"(?:\n?\z)";

/// A compiled expression.
#[derive(Debug)]
pub struct Pattern {
    /// What a path has to begin with, found without the expression.
    prefix: Vec<u8>,
    rest: Rest,
}

/// What an expression says of a path behind its prefix. Most say one of the first three:
/// compiling them as expressions would take most of the time that a policy takes.
#[derive(Debug)]
enum Rest {
    /// Nothing comes.
    Nothing,
    /// `(/.*)?`: nothing, or what lies below.
    Below,
    /// `.*`
    Anything,
    /// Another: for the whole path.
    Expression(Regex),
}

impl Pattern {
    /// Compiles `text`, which takes whole paths.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("the expression has more than {LONGEST} bytes"));
        }
        for (end, rest) in [("(/.*)?", Rest::Below), (".*", Rest::Anything)] {
            // A head that ends in a backslash is none: it takes the end for itself.
            let head = text.strip_suffix(end).map(str::as_bytes);
            let head = head.and_then(|head| Translator::new(head).run().ok());
            if let Some(Translated { prefix, .. }) = head.filter(|head| head.is_literal) {
                return Ok(Self { prefix, rest });
            }
        }
        let translated = Translator::new(text.as_bytes()).run()?;
        let rest = if translated.is_literal {
            Rest::Nothing
        } else {
            Rest::Expression(compiled(&translated)?)
        };
        Ok(Self {
            prefix: translated.prefix,
            rest,
        })
    }

    /// Whether `path` is what the expression says.
    pub fn matches(&self, path: &[u8]) -> bool {
        let Some(rest) = path.strip_prefix(self.prefix.as_slice()) else {
            return false;
        };
        let is_over = matches!(rest, b"" | b"\n");
        match &self.rest {
            Rest::Nothing => is_over,
            Rest::Below => is_over || rest.starts_with(b"/"),
            Rest::Anything => true,
            Rest::Expression(regex) => regex.is_match(path),
        }
    }
}

fn compiled(translated: &Translated) -> Result<Regex, String> {
    RegexBuilder::new(&format!("^{}{END}", translated.text))
        .unicode(false)
        .dot_matches_new_line(true)
        .nest_limit(4 * DEPTH)
        .size_limit(COMPILED)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "the expression is too large".to_owned(),
            other => one_line(&other.to_string()),
        })
}

/// The last line of what `regex` says, which tells the problem.
fn one_line(text: &str) -> String {
    let last = text.lines().next_back().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

struct Translated {
    text: String,
    prefix: Vec<u8>,
    is_literal: bool,
}

struct Translator<'a> {
    input: &'a [u8],
    at: usize,
    output: String,
    depth: u32,
    /// Literal bytes from the beginning.
    prefix: Vec<u8>,
    /// Whether nothing but literal bytes came yet.
    in_prefix: bool,
    /// Whether a choice stands outside of groups: then no prefix holds.
    has_choice: bool,
    /// Whether what came last can be repeated.
    can_repeat: bool,
}

impl<'a> Translator<'a> {
    fn new(input: &'a [u8]) -> Self {
        Self {
            input,
            at: 0,
            output: String::with_capacity(input.len() * 2),
            depth: 0,
            prefix: Vec::new(),
            in_prefix: true,
            has_choice: false,
            can_repeat: false,
        }
    }

    fn run(mut self) -> Result<Translated, String> {
        while let Some(byte) = self.next() {
            self.atom(byte)?;
        }
        if self.depth > 0 {
            return Err("a group is not closed".to_owned());
        }
        if self.has_choice {
            self.prefix.clear();
        }
        Ok(Translated {
            is_literal: self.in_prefix && !self.has_choice,
            text: self.output,
            prefix: self.prefix,
        })
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.input.get(self.at).copied();
        self.at += 1;
        byte
    }

    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    fn atom(&mut self, byte: u8) -> Result<(), String> {
        match byte {
            b'\\' => self.escape(),
            b'[' => self.class(),
            b'(' => self.open(),
            b')' => self.close(),
            b'*' | b'+' | b'?' => {
                self.output.push(char::from(byte));
                self.repeat()
            }
            b'{' => {
                if let Some(counts) = self.counts()? {
                    self.output.push_str(&counts);
                    return self.repeat();
                }
                // As PCRE2 has it, any other brace stands for itself.
                self.literal(b'{');
                Ok(())
            }
            b'|' => {
                self.has_choice |= self.depth == 0;
                self.special("|", false);
                Ok(())
            }
            b'.' => {
                self.special(".", true);
                Ok(())
            }
            b'^' => {
                self.special("^", false);
                Ok(())
            }
            b'$' => {
                self.special(END, false);
                Ok(())
            }
            byte => {
                self.literal(byte);
                Ok(())
            }
        }
    }

    fn special(&mut self, text: &str, can_repeat: bool) {
        self.in_prefix = false;
        self.output.push_str(text);
        self.can_repeat = can_repeat;
    }

    fn literal(&mut self, byte: u8) {
        self.output.push_str(&spelled(byte));
        if self.in_prefix {
            self.prefix.push(byte);
        }
        self.can_repeat = true;
    }

    fn escape(&mut self) -> Result<(), String> {
        match self.next() {
            None => Err("it ends with a backslash".to_owned()),
            Some(byte @ (b'd' | b'D' | b'w' | b'W' | b's' | b'S')) => {
                self.special(&format!("\\{}", char::from(byte)), true);
                Ok(())
            }
            Some(byte) if byte.is_ascii_alphanumeric() => {
                Err(format!("'\\{}' is not supported", char::from(byte)))
            }
            Some(byte) => {
                self.literal(byte);
                Ok(())
            }
        }
    }

    fn open(&mut self) -> Result<(), String> {
        match self.input.get(self.at..) {
            Some([b'?', b':', ..]) => self.at += 2,
            Some([byte @ (b'?' | b'*'), ..]) => {
                return Err(format!("'({}' is not supported", char::from(*byte)));
            }
            _ => {}
        }
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(format!("more than {DEPTH} groups lie in each other"));
        }
        self.special("(?:", false);
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        if self.depth == 0 {
            return Err("a group is closed that is not open".to_owned());
        }
        self.depth -= 1;
        self.special(")", true);
        Ok(())
    }

    /// What follows a repeat: `?` makes it lazy, which changes nothing here.
    fn repeat(&mut self) -> Result<(), String> {
        if !self.can_repeat {
            return Err("there is nothing to repeat".to_owned());
        }
        // The last byte may be absent, or be there again.
        if self.in_prefix {
            self.prefix.pop();
        }
        self.in_prefix = false;
        self.can_repeat = false;
        match self.peek() {
            Some(b'?') => {
                self.at += 1;
                self.output.push('?');
                Ok(())
            }
            Some(b'+') => Err("a possessive repeat is not supported".to_owned()),
            _ => Ok(()),
        }
    }

    /// `{2}`, `{2,}` or `{2,3}` behind a brace, or `None` when it is none.
    fn counts(&mut self) -> Result<Option<String>, String> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let Some(end) = rest.iter().position(|byte| *byte == b'}') else {
            return Ok(None);
        };
        let inside = String::from_utf8_lossy(&rest[..end]).into_owned();
        let (least, most) = inside
            .split_once(',')
            .map_or((inside.as_str(), None), |(least, most)| (least, Some(most)));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
        if !is_number(least) || most.is_some_and(|most| !most.is_empty() && !is_number(most)) {
            return Ok(None);
        }
        for number in [Some(least), most.filter(|most| !most.is_empty())] {
            let fits = |number: &str| number.parse::<u32>().is_ok_and(|it| it <= REPEATS);
            if !number.is_none_or(fits) {
                return Err(format!("it repeats more than {REPEATS} times"));
            }
        }
        self.at += end + 1;
        Ok(Some(format!("{{{inside}}}")))
    }

    /// A class: its members are spelled so that none of them means anything.
    fn class(&mut self) -> Result<(), String> {
        let unclosed = || "a class is not closed".to_owned();
        let mut text = String::from("[");
        if self.peek() == Some(b'^') {
            self.at += 1;
            text.push('^');
        }
        let mut is_first = true;
        loop {
            let byte = self.next().ok_or_else(unclosed)?;
            match byte {
                b']' if !is_first => break,
                b'[' if matches!(self.peek(), Some(b':')) => text.push_str(&self.named()?),
                b'[' if matches!(self.peek(), Some(b'.' | b'=')) => {
                    return Err("collating elements are not supported".to_owned());
                }
                b'\\' => {
                    let next = self.next().ok_or_else(unclosed)?;
                    match next {
                        b'd' | b'D' | b'w' | b'W' | b's' | b'S' => {
                            text.push('\\');
                            text.push(char::from(next));
                        }
                        next if next.is_ascii_alphanumeric() => {
                            return Err(format!("'\\{}' is not supported", char::from(next)));
                        }
                        next => text.push_str(&self.range(next)?),
                    }
                }
                byte => text.push_str(&self.range(byte)?),
            }
            is_first = false;
        }
        text.push(']');
        self.special(&text, true);
        Ok(())
    }

    /// `from` alone, or the range that begins with it.
    fn range(&mut self, from: u8) -> Result<String, String> {
        let (minus, to) = (self.peek(), self.input.get(self.at + 1).copied());
        match (minus, to) {
            (Some(b'-'), Some(to)) if to != b']' => {
                self.at += 2;
                let to = match to {
                    b'\\' => self.next().unwrap_or_default(),
                    to => to,
                };
                let is_plain = !(to.is_ascii_alphanumeric() && self.input[self.at - 2] == b'\\');
                if from > to || to == b'[' || !is_plain {
                    return Err("a range of a class is out of order".to_owned());
                }
                Ok(format!("{}-{}", spelled(from), spelled(to)))
            }
            _ => Ok(spelled(from)),
        }
    }

    /// `[:alpha:]` inside a class.
    fn named(&mut self) -> Result<String, String> {
        const NAMES: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print",
            "punct", "space", "upper", "word", "xdigit",
        ];
        let rest = &self.input[self.at + 1..];
        let end = rest.windows(2).position(|two| two == b":]");
        let name = end.and_then(|end| std::str::from_utf8(&rest[..end]).ok());
        match name.filter(|name| NAMES.contains(name)) {
            Some(name) => {
                self.at += name.len() + 3;
                Ok(format!("[:{name}:]"))
            }
            None => Err("a named class is not known".to_owned()),
        }
    }
}

/// A byte that stands for itself, in classes too.
fn spelled(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || byte == b'/' {
        char::from(byte).to_string()
    } else {
        format!("\\x{byte:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_match(pattern: &str, path: &str) -> bool {
        Pattern::new(pattern)
            .unwrap_or_else(|error| panic!("{pattern}: {error}"))
            .matches(path.as_bytes())
    }

    #[test]
    fn what_is_not_compiled_is_what_the_expression_would_be() {
        let paths = [
            "",
            "\n",
            "/",
            "/etc",
            "/etc\n",
            "/etc/",
            "/etc/a/b\n",
            "/etcx",
            "/et",
            "/etc.",
            "/etc..",
            "/etc(/",
            "/etc(/x",
            "/etc(/x/",
            "/etc*",
            "/a/etc",
            "/etc\\",
            "/etc\\/x",
            "/etc/*",
        ];
        let mut named = 0;
        for text in [
            "/etc(/.*)?",
            "/etc/.*",
            "/etc.*",
            ".*",
            "(/.*)?",
            r"/etc\(/.*)?",
            r"/etc\.*",
            r"/etc\\.*",
            r"/etc\\(/.*)?",
            "/etc|(/.*)?",
            "/etc(.*",
            "/et[c](/.*)?",
            "/etc?(/.*)?",
        ] {
            let Ok(translated) = Translator::new(text.as_bytes()).run() else {
                assert!(Pattern::new(text).is_err(), "{text}");
                continue;
            };
            let expression =
                compiled(&translated).unwrap_or_else(|error| panic!("{text}: {error}"));
            let pattern = Pattern::new(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            named += usize::from(!matches!(pattern.rest, Rest::Expression(_)));
            for path in paths {
                let wanted = expression.is_match(path.as_bytes());
                assert_eq!(pattern.matches(path.as_bytes()), wanted, "{text}, {path:?}");
            }
        }
        assert_eq!(named, 7);
    }

    #[test]
    fn what_policies_write() {
        for (pattern, yes, no) in [
            (
                "/etc(/.*)?",
                &["/etc", "/etc/a/b"][..],
                &["/etcx", "/a/etc"][..],
            ),
            (
                "/dev/[0-9].*",
                &["/dev/0", "/dev/9x"],
                &["/dev/x0", "/dev/"],
            ),
            (
                r"/lib/ld-[^/]*\.so(\.[^/]*)*",
                &["/lib/ld-a.so", "/lib/ld-.so.1.2"],
                &["/lib/ld-a/b.so", "/lib/ld-axso"],
            ),
            (
                "/dev/(raw/)?raw1394-[0-9]+",
                &["/dev/raw1394-12", "/dev/raw/raw1394-0"],
                &["/dev/raw1394-"],
            ),
            (
                "/var/(a|b{2,3})/x+?",
                &["/var/a/x", "/var/bbb/xx"],
                &["/var/b/x", "/var/bbbb/x", "/var/a/"],
            ),
            (
                "/usr/.{1,2}",
                &["/usr/a", "/usr//a", "/usr/\n"],
                &["/usr/", "/usr/abc"],
            ),
            (
                r"/lost\+found",
                &["/lost+found"],
                &["/losttfound", "/lost+found/x"],
            ),
            ("/[[:alpha:]_-]+", &["/a_-b"], &["/a1"]),
            (r"/[\w.]{3}\d", &["/a_.7"], &["/a_.x"]),
        ] {
            for path in yes {
                assert!(is_match(pattern, path), "{pattern} takes {path:?}");
            }
            for path in no {
                assert!(!is_match(pattern, path), "{pattern} leaves {path:?}");
            }
        }
    }

    /// `^/a|/b$`: the anchors belong to the two ends, as libselinux puts them.
    #[test]
    fn a_choice_outside_of_groups_is_anchored_on_one_side_only() {
        assert!(is_match("/a|/b", "/a/anything"));
        assert!(is_match("/a|/b", "/anything/b"));
        assert!(!is_match("/a|/b", "/x/a"));
        assert!(is_match("(/a|/b)", "/b") && !is_match("(/a|/b)", "/a/x"));
    }

    #[test]
    fn a_line_break_at_the_end_does_not_hide_a_path() {
        assert!(is_match("/a", "/a\n") && is_match("/[a]", "/a\n"));
        assert!(!is_match("/a", "/a\n\n") && !is_match("/[a]", "/a\n\n"));
        assert!(is_match("/a$", "/a"));
    }

    #[test]
    fn what_repeats_is_no_part_of_the_prefix() {
        assert!(is_match("/ab?", "/a") && is_match("/ab*c", "/ac"));
        assert!(is_match("/ab{0,1}", "/a") && is_match(r"/a\.?b", "/ab"));
        assert!(is_match("/ab+", "/abb") && !is_match("/ab+", "/a"));
    }

    #[test]
    fn a_brace_that_counts_nothing_stands_for_itself() {
        assert!(is_match("/a{x}", "/a{x}") && is_match("/a{,3}", "/a{,3}"));
        assert!(is_match("/a{", "/a{") && is_match("/a}", "/a}") && is_match("/a]", "/a]"));
    }

    #[test]
    fn members_of_classes_mean_nothing() {
        assert!(is_match("/[]a]", "/]") && is_match("/[^]a]", "/b") && !is_match("/[^]a]", "/]"));
        assert!(is_match("/[a&&b]", "/&") && is_match("/[a~~b]", "/~") && is_match("/[[a]", "/["));
        assert!(is_match("/[a-]", "/-") && is_match("/[-a]", "/-") && is_match(r"/[\]x]", "/]"));
        assert!(is_match("/[.]", "/.") && !is_match("/[.]", "/x"));
        assert!(is_match(r"/[!-\.]", "/#") && !is_match(r"/[!-\.]", "/z"));
    }

    #[test]
    fn any_byte_is_a_byte() {
        let pattern = Pattern::new("/a/.[^x]").expect("compiles");
        assert!(pattern.matches(b"/a/\xff\xfe") && !pattern.matches(b"/a/\xffx"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (pattern, says) in [
            ("/a(b", "not closed"),
            ("/a)b", "not open"),
            ("/[a", "class is not closed"),
            ("*", "nothing to repeat"),
            ("/a(*)", "'(*' is not supported"),
            ("/(|+)", "nothing to repeat"),
            ("/a**", "nothing to repeat"),
            ("/a*+", "possessive"),
            ("/a{256}", "more than 255"),
            ("/a{3,2}", "invalid repetition"),
            ("/(?=a)", "'(?' is not supported"),
            (r"/(a)\1", r"'\1' is not supported"),
            (r"/a\", "ends with a backslash"),
            (r"/\Qa", r"'\Q' is not supported"),
            ("/[z-a]", "out of order"),
            (r"/[a-\d]", "out of order"),
            ("/[[:nose:]]", "not known"),
            ("/[[.a.]]", "collating"),
            ("/((a{255}){255}){255}", "too large"),
        ] {
            let error = Pattern::new(pattern).expect_err(pattern);
            assert!(error.contains(says), "{pattern}: {error}");
        }
        assert!(Pattern::new(&"a".repeat(LONGEST + 1)).is_err());
        assert!(
            Pattern::new(&"(".repeat(100))
                .expect_err("deep")
                .contains("64")
        );
    }
}
