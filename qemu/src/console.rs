//! What the guest writes to its serial console, made safe to look at.
//!
//! The bytes come from a machine that may be hostile. Whatever it sends, what
//! leaves this module is plain text in lines of bounded length: no escape
//! sequences, no control characters, no characters that turn the direction of
//! text; and memory stays bounded.

use std::collections::VecDeque;

/// Bytes of a line that are kept; the rest is dropped and marked.
pub const LINE_LIMIT: usize = 4096;
/// Lines that the tail keeps.
pub const TAIL_LINES: usize = 40;
/// Stands for what was cut from a line.
const CUT: &str = " [...]";
/// Bytes after which the argument of an escape sequence that never ends is
/// given up, so that one stray byte does not swallow the rest of the boot.
const SEQUENCE_LIMIT: usize = 4096;

/// Where the filter stands in the byte stream (ECMA-48).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// Ordinary text.
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// Within a control sequence: `ESC [` to a final byte.
    Control,
    /// Within a string (operating system command and its like), to BEL or
    /// `ESC \`.
    String,
    /// After ESC within a string.
    StringEscape,
}

/// Turns bytes into clean lines. Feed it with [`Console::push`].
#[derive(Debug, Default)]
pub struct Console {
    state: State,
    /// Bytes of the escape sequence so far.
    sequence: usize,
    line: Vec<u8>,
    cut: bool,
    /// The last byte was a carriage return that ended a line.
    returned: bool,
    tail: VecDeque<String>,
}

impl Console {
    /// An empty console.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what came, and gives every line that it completes to `each`.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        for byte in bytes {
            if let Some(line) = self.step(*byte) {
                each(&line);
            }
        }
    }

    /// The line that is not complete yet: a prompt, usually.
    pub fn partial(&self) -> String {
        clean(&self.line, false)
    }

    /// The last lines, the incomplete one included.
    pub fn tail(&self) -> Vec<String> {
        let partial = self.partial();
        let mut lines: Vec<String> = self.tail.iter().cloned().collect();
        if !partial.is_empty() {
            lines.push(partial);
        }
        lines.drain(..lines.len().saturating_sub(TAIL_LINES));
        lines
    }

    fn step(&mut self, byte: u8) -> Option<String> {
        let returned = std::mem::take(&mut self.returned);
        if self.state != State::Text {
            self.sequence += 1;
            if self.sequence > SEQUENCE_LIMIT || byte == b'\n' {
                self.state = State::Text;
            }
        }
        match (self.state, byte) {
            (State::Text, 0x1b) => {
                self.state = State::Escape;
                self.sequence = 0;
            }
            (State::Text, b'\n') if returned => {}
            (State::Text, b'\n') => return Some(self.end_line()),
            (State::Text, b'\r') => {
                // Both '\r\n' and a progress line that rewrites itself: an empty
                // line only where the guest sent a line feed.
                self.returned = true;
                return Some(self.end_line());
            }
            (State::Text, 0x08) => {
                // One character: its continuation bytes, then its first.
                while self.line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            (State::Text, b'\t') => self.keep(b' '),
            (State::Text, 0x20..=0x7e | 0x80..) => self.keep(byte),
            (State::Escape, b'[') => self.state = State::Control,
            (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => self.state = State::String,
            (State::Control, b'H' | b'f') => {
                // Firmware and boot loaders place text by position; what stood
                // elsewhere on the screen is another line.
                self.state = State::Text;
                if !self.line.is_empty() {
                    return Some(self.end_line());
                }
            }
            (State::Escape, 0..0x20 | 0x30..)
            | (State::Control, 0x40..=0x7e)
            | (State::String, 0x07)
            | (State::StringEscape, b'\\') => self.state = State::Text,
            (State::String, 0x1b) => self.state = State::StringEscape,
            (State::StringEscape, _) => self.state = State::String,
            // Other controls in text, and what sequences consist of.
            (State::Text | State::Escape | State::Control | State::String, _) => {}
        }
        None
    }

    fn keep(&mut self, byte: u8) {
        if self.line.len() < LINE_LIMIT {
            self.line.push(byte);
        } else {
            self.cut = true;
        }
    }

    fn end_line(&mut self) -> String {
        let line = clean(&self.line, self.cut);
        self.line.clear();
        self.cut = false;
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line.clone());
        line
    }
}

/// Takes any bytes and fails if what comes out is not clean and bounded: the
/// entry point of the fuzz target and of the test that replays its corpus.
#[doc(hidden)]
pub fn check(bytes: &[u8]) {
    let mut console = Console::new();
    let mut whole = Vec::new();
    console.push(bytes, |line| whole.push(line.to_owned()));
    whole.push(console.partial());
    for line in whole.iter().chain(&console.tail()) {
        assert!(line.len() <= 3 * LINE_LIMIT + CUT.len());
        assert!(
            !line
                .chars()
                .any(|character| character.is_control() || turns_direction(character))
        );
    }
    assert!(console.tail().len() <= TAIL_LINES);
    // How the bytes are cut into reads does not matter.
    let mut console = Console::new();
    let mut single = Vec::new();
    for byte in bytes {
        console.push(std::slice::from_ref(byte), |line| {
            single.push(line.to_owned());
        });
    }
    single.push(console.partial());
    assert_eq!(whole, single);
}

/// Cleans text of any origin: a program's standard error, for one.
pub(crate) fn clean_lines(bytes: &[u8]) -> Vec<String> {
    let mut console = Console::new();
    console.push(bytes, |_| ());
    console.tail()
}

fn clean(bytes: &[u8], cut: bool) -> String {
    let mut line: String = String::from_utf8_lossy(bytes)
        .chars()
        .filter(|character| !character.is_control() && !turns_direction(*character))
        .collect();
    line.truncate(line.trim_end().len());
    if cut {
        line.push_str(CUT);
    }
    line
}

/// Characters that make text show in another order than it is read (Unicode
/// Standard Annex 9), and line separators that are not control characters.
fn turns_direction(character: char) -> bool {
    matches!(
        character,
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<String> {
        let mut console = Console::new();
        let mut lines = Vec::new();
        console.push(bytes, |line| lines.push(line.to_owned()));
        lines.push(console.partial());
        lines
    }

    #[test]
    fn keeps_text_and_drops_colours() {
        let systemd = b"[\x1b[0;32m  OK  \x1b[0m] Reached target \x1b[0;1;39mnetwork-online.target\x1b[0m - Network is Online.\r\n";
        assert_eq!(
            lines(systemd),
            [
                "[  OK  ] Reached target network-online.target - Network is Online.",
                ""
            ]
        );
    }

    #[test]
    fn splits_lines_at_line_ends_rewrites_and_positions() {
        assert_eq!(lines(b"a\r\nb\nc"), ["a", "b", "c"]);
        assert_eq!(lines(b"10%\r20%\r\n\r\nend"), ["10%", "20%", "", "end"]);
        assert_eq!(
            lines(b"\x1b[2J\x1b[01;01HGNU GRUB\x1b[4;2H*Debian"),
            ["GNU GRUB", "*Debian"]
        );
    }

    #[test]
    fn a_hostile_guest_controls_nothing() {
        // Window title, clipboard, device status, cursor keys, C1 controls,
        // reversed text, bell, backspace over what was there before.
        let hostile = "\x1b]0;title\x07a\x1b]52;c;ZXZpbA==\x1b\\b\x1b[6nc\x1bP1$r\x1b\\d\u{9b}31me\u{202e}f\x07g\x08\x08h\x1b(Bi\x1bc";
        assert_eq!(lines(hostile.as_bytes()), ["abcd31mehi"]);
        for line in lines(&(0..=255).collect::<Vec<u8>>()) {
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }

    #[test]
    fn memory_stays_bounded() {
        let mut console = Console::new();
        let mut longest = 0;
        for _ in 0..200 {
            console.push(&[b'x'; 10_000], |line| longest = longest.max(line.len()));
        }
        console.push(b"\n", |line| longest = longest.max(line.len()));
        assert_eq!(longest, LINE_LIMIT + CUT.len());
        for _ in 0..100 {
            console.push(b"y\n", |_| ());
        }
        assert_eq!(console.tail().len(), TAIL_LINES);
    }

    #[test]
    fn an_unfinished_sequence_does_not_hide_the_rest() {
        assert_eq!(lines(b"\x1b]0;never ended\nnext"), ["", "next"]);
        let mut endless = b"\x1bP".to_vec();
        endless.extend([b'x'; SEQUENCE_LIMIT + 10]);
        endless.extend(b"seen");
        assert!(lines(&endless)[0].ends_with("seen"));
    }

    #[test]
    fn the_corpus_of_the_fuzz_target_stays_clean() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/console");
        let mut seen = 0;
        // A linear congruential generator (Knuth's constants): any sequence will
        // do, as long as it is always the same.
        let mut state = 1_u64;
        let mut random = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let files = std::fs::read_dir(folder).expect("a corpus");
        let mut files: Vec<_> = files.map(|entry| entry.expect("read").path()).collect();
        files.sort();
        for file in files {
            let bytes = std::fs::read(file).expect("read");
            check(&bytes);
            for _ in 0..300 {
                let mut changed = bytes.clone();
                for _ in 0..=random(8) {
                    let place = random(changed.len().max(1));
                    match random(3) {
                        _ if changed.is_empty() => changed.push(0x1b),
                        0 => changed[place] = random(256) as u8,
                        1 => changed.insert(place, 0x1b),
                        _ => changed.truncate(place + 1),
                    }
                }
                check(&changed);
            }
            seen += 1;
        }
        assert!(seen >= 4);
    }

    #[test]
    fn the_tail_ends_with_the_prompt() {
        let mut console = Console::new();
        console.push(b"Debian GNU/Linux 12\n\nnode login: ", |_| ());
        assert_eq!(
            console.tail().last().map(String::as_str),
            Some("node login:")
        );
    }
}
