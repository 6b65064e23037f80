//! Cutting bytes into lines as they come, never holding more than one line that is too long.

/// A line of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Without its line break.
    Text(&'a [u8]),
    /// Longer than is taken; it was thrown away.
    TooLong,
}

/// Room for as many bytes is kept.
const ROOM: usize = 256 << 10;

/// Cuts what is pushed into it into lines.
#[derive(Debug)]
pub struct Lines {
    buffer: Vec<u8>,
    /// Everything before this was handed out.
    from: usize,
    /// No line break lies between `from` and here.
    looked: usize,
    /// The longest line taken, in bytes.
    longest: usize,
    /// The rest of a line that is too long is being thrown away.
    skipping: bool,
    /// The last line was pushed.
    ended: bool,
}

impl Lines {
    /// Takes lines of up to `longest` bytes.
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

    /// More of the text. Take all lines out before pushing more, or they pile up.
    pub fn push(&mut self, bytes: &[u8]) {
        self.settle();
        self.buffer.extend_from_slice(bytes);
    }

    /// Lets go of what was taken out, and of the room that a long line left; answers how many bytes
    /// are still held.
    pub fn settle(&mut self) -> usize {
        self.buffer.drain(..self.from);
        self.looked -= self.from;
        self.from = 0;
        let held = self.buffer.len();
        if self.buffer.capacity() > ROOM.max(4 * held) {
            self.buffer.shrink_to(2 * held);
        }
        held
    }

    /// Nothing more comes: what is left is the last line.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// The next whole line.
    pub fn take(&mut self) -> Option<Line<'_>> {
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
            while let Some(line) = lines.take() {
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
