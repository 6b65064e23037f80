//! Structured values derived from fuzzer input.

/// Input bytes, taken front to back. After the end, every byte is 0.
pub struct Taker<'a>(pub &'a [u8]);

impl<'a> Taker<'a> {
    pub fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *byte
    }

    /// Takes up to 255 bytes.
    pub fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }

    /// Takes a number. Small and large numbers are equally frequent.
    pub fn number(&mut self) -> u64 {
        let digits = self.byte() % 9;
        (0..digits).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    pub fn maybe_text(&mut self) -> Option<String> {
        (self.byte() % 2 == 1).then(|| self.text())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
