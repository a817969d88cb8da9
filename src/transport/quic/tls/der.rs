//! As much of DER (X.690) as a certificate needs, read without copying.
//!
//! Only what is needed: one-byte tags, definite lengths in their shortest form, at most 65,535 bytes.

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;

/// The tag of a constructed element that its context numbers.
pub(super) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// There was something else than what was to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// An element as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    /// With tag and length, as it is signed.
    pub(super) whole: &'a [u8],
    pub(super) contents: &'a [u8],
}

/// Reads one element after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element, which must have this tag.
    pub(super) fn element(&mut self, tag: u8) -> Result<Element<'a>, Malformed> {
        let (header, length) = match *self.0 {
            [found, ..] if found != tag => return Err(Malformed),
            [_, length @ 0..=0x7f, ..] => (2, usize::from(length)),
            [_, 0x81, length @ 0x80..=0xff, ..] => (3, usize::from(length)),
            [_, 0x82, high @ 1..=0xff, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
            _ => return Err(Malformed),
        };
        let (whole, rest) = self.0.split_at_checked(header + length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(Element { whole, contents: &whole[header..] })
    }

    /// What is in the next element, which must have this tag.
    pub(super) fn contents(&mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        Ok(self.element(tag)?.contents)
    }

    /// What is in the next element, if there is one and it has this tag.
    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Malformed> {
        if self.0.first() == Some(&tag) { self.contents(tag).map(Some) } else { Ok(None) }
    }

    /// A reader of what is in the next element, which must have this tag.
    pub(super) fn inside(&mut self, tag: u8) -> Result<Reader<'a>, Malformed> {
        self.contents(tag).map(Reader)
    }

    /// The bytes of a bit string that is made of whole ones: keys and signatures are.
    pub(super) fn bits(&mut self) -> Result<&'a [u8], Malformed> {
        match self.contents(BIT_STRING)? {
            [0, bytes @ ..] => Ok(bytes),
            _ => Err(Malformed),
        }
    }

    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// An element of these parts, one after the other.
pub(super) fn write(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 4);
    out.push(tag);
    // Big endian, and no leading zeros. What is written here is far shorter than 2^16.
    match length.to_be_bytes() {
        [.., 0, low] if low < 0x80 => out.push(low),
        [.., 0, low] => out.extend([0x81, low]),
        [.., high, low] => out.extend([0x82, high, low]),
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}
