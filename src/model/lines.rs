//! Incremental splitting of bytes into lines. At most one overlong line is held in memory.

/// A line of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line without its line break.
    Text(&'a [u8]),
    /// A line over the length limit. Its bytes were discarded.
    TooLong,
}

/// The buffer capacity that is kept for later lines, in bytes.
const ROOM: usize = 256 << 10;

/// A splitter that cuts pushed bytes into lines.
#[derive(Debug)]
pub struct Lines {
    buffer: Vec<u8>,
    /// The end of the bytes that were already returned.
    from: usize,
    /// The end of the searched bytes. No line break is between `from` and here.
    looked: usize,
    /// The maximum length of a line, in bytes.
    longest: usize,
    /// Whether the rest of an overlong line is being discarded.
    skipping: bool,
    /// Whether the last line was pushed.
    ended: bool,
}

impl Lines {
    /// Creates a splitter for lines of up to `longest` bytes.
    #[must_use]
    pub fn new(longest: usize) -> Self {
        let buffer = Vec::new();
        Self {
            buffer,
            from: 0,
            looked: 0,
            longest,
            skipping: false,
            ended: false,
        }
    }

    /// Adds more text. Take all complete lines before you push more, or they accumulate.
    pub fn push(&mut self, bytes: &[u8]) {
        self.release_consumed();
        self.buffer.extend_from_slice(bytes);
    }

    /// Releases consumed bytes and shrinks the buffer after a long line. Returns the number of
    /// bytes still buffered.
    pub fn release_consumed(&mut self) -> usize {
        self.buffer.drain(..self.from);
        self.looked -= self.from;
        self.from = 0;
        let held = self.buffer.len();
        if self.buffer.capacity() > ROOM.max(4 * held) {
            self.buffer.shrink_to(2 * held);
        }
        held
    }

    /// Marks the end of the text. The remaining bytes are the last line.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Returns the next complete line.
    pub fn next_line(&mut self) -> Option<Line<'_>> {
        let rest = &self.buffer[self.looked..];
        let (end, next) = match rest.iter().position(|byte| *byte == b'\n') {
            Some(at) => (self.looked + at, self.looked + at + 1),
            None if self.ended && (self.skipping || self.from < self.buffer.len()) => {
                (self.buffer.len(), self.buffer.len())
            }
            None => {
                self.looked = self.buffer.len();
                if self.looked - self.from > self.longest {
                    self.skipping = true;
                    self.from = self.looked;
                }
                return None;
            }
        };
        let begin = self.from;
        (self.from, self.looked) = (next, next);
        if std::mem::take(&mut self.skipping) || end - begin > self.longest {
            return Some(Line::TooLong);
        }
        let line = &self.buffer[begin..end];
        Some(Line::Text(line.strip_suffix(b"\r").unwrap_or(line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(longest: usize, parts: &[&[u8]]) -> Vec<Option<Vec<u8>>> {
        let (mut lines, mut all) = (Lines::new(longest), Vec::new());
        let mut take = |lines: &mut Lines| {
            while let Some(line) = lines.next_line() {
                all.push(match line {
                    Line::Text(text) => Some(text.to_vec()),
                    Line::TooLong => None,
                });
            }
            assert!(lines.buffer.len() - lines.from <= longest, "{lines:?}");
        };
        for part in parts {
            lines.push(part);
            take(&mut lines);
        }
        lines.end();
        take(&mut lines);
        all
    }

    #[test]
    fn a_line_that_is_too_long_is_one_line_and_not_held() {
        let text = |text: &str| Some(text.as_bytes().to_vec());
        let parts: [&[u8]; 5] = [b"ab\nxxxx", b"xxxx", b"xx\ncd\r\n", b"yyyyyyyyy\ne", b"f"];
        assert_eq!(
            cut(4, &parts),
            [text("ab"), None, text("cd"), None, text("ef")]
        );
        assert_eq!(cut(4, &[b"zzzzzzzz"]), [None]);
        assert_eq!(cut(4, &[b"", b"\n"]), [text("")]);
    }

    proptest! {
        #[test]
        fn however_it_comes_the_lines_are_the_same(
            text in "[a-c\n]{0,60}", cuts in prop::collection::vec(0usize..60, 0..6), longest in 1usize..8,
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let parts: Vec<&[u8]> = cuts.windows(2).map(|w| &text.as_bytes()[w[0]..w[1]]).collect();
            let whole = text.strip_suffix('\n').map_or(text.as_str(), |rest| rest);
            let expected: Vec<Option<Vec<u8>>> = if text.is_empty() {
                Vec::new()
            } else {
                let line = |line: &str| (line.len() <= longest).then(|| line.as_bytes().to_vec());
                whole.split('\n').map(line).collect()
            };
            prop_assert_eq!(cut(longest, &parts), expected);
        }
    }
}
