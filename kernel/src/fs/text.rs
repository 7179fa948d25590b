// SPDX-License-Identifier: MPL-2.0

//! Text that is made up: what [synthetic](super::synthetic) files show. A [`Text`] is put together piece by piece, a line of
//! [`Fields`] on the stack where there are thousands of them.

use crate::prelude::*;

/// Formats into a [`Text`].
macro_rules! put {
    ($text:expr, $($arg:tt)*) => {
        $text.put(format_args!($($arg)*))
    };
}
pub(crate) use put;

/// The text of a file, as bytes: names need not be Unicode.
///
/// Without memory for more, what is added is left out; [`Text::finish`] tells.
#[derive(Debug, Default)]
pub struct Text {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Text {
    /// Adds bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if try_reserve(&mut self.bytes, bytes.len()).is_ok() {
            self.bytes.extend_from_slice(bytes);
        } else {
            self.is_cut = true;
        }
    }

    /// Adds a byte so many times.
    fn fill(&mut self, byte: u8, count: usize) {
        if try_reserve(&mut self.bytes, count).is_ok() {
            self.bytes.resize(self.bytes.len() + count, byte);
        } else {
            self.is_cut = true;
        }
    }

    /// The text.
    ///
    /// # Errors
    ///
    /// ENOMEM if something was left out.
    pub fn finish(self) -> Result<Vec<u8>> {
        if self.is_cut { Err(ENOMEM) } else { Ok(self.bytes) }
    }

    /// Adds formatted text.
    pub fn put(&mut self, arguments: fmt::Arguments<'_>) {
        // Writing to memory does not fail.
        let _ = fmt::Write::write_fmt(self, arguments);
    }

    /// Makes room for `more` bytes, if there is any: what comes is then not moved about.
    pub fn reserve(&mut self, more: usize) {
        // Without it the room is made bit by bit.
        let _ = try_reserve(&mut self.bytes, more);
    }

    /// Adds bytes, those in `special` as a backslash and three octal digits.
    pub fn push_escaped(&mut self, bytes: &[u8], special: &[u8]) {
        for byte in bytes {
            if special.contains(byte) {
                put!(self, "\\{byte:03o}");
            } else {
                self.push(&[*byte]);
            }
        }
    }

    /// Adds spaces until the line that began at `start` has `width` columns.
    pub fn pad_from(&mut self, start: usize, width: usize) {
        self.fill(b' ', (start + width).saturating_sub(self.bytes.len()));
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// The fields of a line, put together on the stack: for texts of thousands of lines, in which each piece that is added to a
/// [`Text`] by itself, let alone formatted, would take several times as long.
///
/// Whoever makes the line knows that `SIZE` bytes are enough, and 15 more than it needs; what is too much is left out.
pub struct Fields<const SIZE: usize> {
    bytes: [u8; SIZE],
    len: usize,
}

impl<const SIZE: usize> Default for Fields<SIZE> {
    #[inline]
    fn default() -> Self {
        Self { bytes: [0; SIZE], len: 0 }
    }
}

impl<const SIZE: usize> Fields<SIZE> {
    /// Adds bytes.
    #[inline]
    pub fn push<const COUNT: usize>(&mut self, bytes: [u8; COUNT]) {
        self.push_first(bytes, COUNT);
    }

    /// Adds the first `count` bytes, and writes the others behind them: how many are written is known to the compiler.
    #[inline]
    fn push_first<const COUNT: usize>(&mut self, bytes: [u8; COUNT], count: usize) {
        if let Some(place) = self.bytes.get_mut(self.len..self.len + COUNT) {
            place.copy_from_slice(&bytes);
            self.len += count;
        }
    }

    /// Adds `number` in hexadecimal, with at least `width` digits, which is 1 to 16.
    #[inline]
    pub fn push_hex(&mut self, number: u64, width: u32) {
        let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).clamp(width, 16);
        let from_the_left = number << (u64::BITS - 4 * digits);
        self.push_first(hex((from_the_left >> 32) as u32), digits.min(8) as usize);
        if digits > 8 {
            self.push_first(hex(from_the_left as u32), digits as usize - 8);
        }
    }

    /// Adds `number` in decimal.
    pub fn push_decimal(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        for digit in &digits[first..] {
            self.push([*digit]);
        }
    }

    /// The line.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The eight digits of `number` in hexadecimal, all at once: each gets a byte of one word.
fn hex(number: u32) -> [u8; 8] {
    let spread = u64::from(number);
    let spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    let digits = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // 1 in the bytes of those that are letters.
    let letters = (digits + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    let to_letter = u64::from(b'a' - b'0' - 10);
    (digits + 0x3030_3030_3030_3030 + letters * to_letter).to_be_bytes()
}

#[cfg(ktest)]
mod tests {
    use ostd::prelude::ktest;

    use super::*;

    #[ktest]
    fn fields_are_what_formatting_makes_of_them() {
        let numbers =
            (0..64).flat_map(|bit| [0, 1 << bit, (1 << bit) - 1, u64::MAX >> bit, 0x0123_4567_89ab_cdef]);
        for number in numbers {
            let mut fields = Fields::<80>::default();
            fields.push_hex(number, 8);
            fields.push(*b"-");
            fields.push_hex(number, 2);
            fields.push(*b" ");
            fields.push_decimal(number);
            let expected = format!("{number:08x}-{number:02x} {number}");
            assert_eq!(fields.as_bytes(), expected.as_bytes());
        }
    }

    #[ktest]
    fn what_is_too_much_is_left_out() {
        let mut fields = Fields::<4>::default();
        fields.push(*b"abc");
        fields.push(*b"de");
        fields.push_hex(1, 1);
        assert_eq!(fields.as_bytes(), b"abc");
    }
}
