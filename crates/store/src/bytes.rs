//! Numbers and strings as the files of the store have them: LEB128, lengths in front.

/// Appends a number, seven bits a byte, low ones first.
pub(crate) fn put_number(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push((number & 0x7F) as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

/// Bytes that [`put_number`] appends.
pub(crate) fn number_len(number: u64) -> usize {
    let bits = 64 - (number | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends a length and so many bytes.
pub(crate) fn put_bytes(into: &mut Vec<u8>, bytes: &[u8]) {
    put_number(into, bytes.len() as u64);
    into.extend_from_slice(bytes);
}

/// Appends how many there are, the first one, and for the others by how much they are greater than the one before.
pub(crate) fn put_ascending(into: &mut Vec<u8>, numbers: &[u64]) {
    put_number(into, numbers.len() as u64);
    let mut last = 0;
    for &number in numbers {
        put_number(into, number.wrapping_sub(last));
        last = number;
    }
}

/// Takes from the front of bytes; `None` where they are not what they should be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub(crate) fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.number()?).ok()
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(*self.take(4)?.first_chunk()?))
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.small()?;
        self.take(count)
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        core::str::from_utf8(self.bytes()?).ok()
    }

    pub(crate) fn ascending(&mut self) -> Option<Ascending<'a>> {
        let count: usize = self.small()?;
        let numbers = Ascending { reader: *self, left: count, last: 0 };
        for _ in 0..count {
            self.number()?;
        }
        Some(numbers)
    }
}

/// What [`put_ascending`] wrote.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ascending<'a> {
    reader: Reader<'a>,
    left: usize,
    last: u64,
}

impl Iterator for Ascending<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        self.last = self.last.wrapping_add(self.reader.number()?);
        Some(self.last)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_take_the_bytes_that_were_told() {
        for number in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX >> 1, u64::MAX] {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            assert_eq!(bytes.len(), number_len(number), "{number}");
            assert_eq!(Reader(&bytes).number(), Some(number));
            assert_eq!(Reader(&bytes[..bytes.len() - 1]).number(), None, "{number} cut");
        }
        assert_eq!(Reader(&[0xFF; 10]).number(), None, "more than 64 bits");
    }

    #[test]
    fn ascending_numbers_come_back() {
        let mut bytes = Vec::new();
        put_ascending(&mut bytes, &[3, 4, 1000, u64::MAX]);
        assert_eq!(Reader(&bytes).ascending().unwrap().collect::<Vec<_>>(), [3, 4, 1000, u64::MAX]);
        assert!(Reader(&[200, 1, 5]).ascending().is_none(), "a count without its numbers");
    }
}
