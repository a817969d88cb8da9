//! JSON itself (RFC 8259): text to values and back. Pure.
//!
//! Numbers stay as they are written. Nobody calculates with them here, an `id` comes back as it was sent, and a table of
//! 10 kB that reading fractions takes is not in the program for that.

use std::fmt::{self, Write as _};

use crate::limits;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// As it is written.
    Number(String),
    String(String),
    Array(Vec<Value>),
    /// In the order of the text.
    Object(Vec<(String, Value)>),
}

/// Why a text is no JSON.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadJson {
    #[error("{found:?} at byte {at} does not belong there")]
    Unexpected { found: char, at: usize },
    #[error("it ends too early")]
    End,
    #[error("it is nested more than {} deep", limits::JSON_DEPTH)]
    Deep,
}

/// Reads a text that is one value.
pub(super) fn parse(text: &str) -> Result<Value, BadJson> {
    let mut parser = Parser { text, at: 0 };
    let value = parser.value(0)?;
    if parser.peek().is_ok() { Err(parser.unexpected()) } else { Ok(value) }
}

impl Value {
    /// The field of an object; of several with this name the last one.
    pub(super) fn field(&self, name: &str) -> Option<&Value> {
        let Value::Object(fields) = self else { return None };
        fields.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let Value::String(text) = self { Some(text) } else { None }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(is_so) => write!(f, "{is_so}"),
            Value::Number(text) => f.write_str(text),
            Value::String(text) => string(text, f),
            Value::Array(values) => {
                f.write_char('[')?;
                for (n, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if n > 0 { "," } else { "" })?;
                }
                f.write_char(']')
            }
            Value::Object(fields) => {
                f.write_char('{')?;
                for (n, (name, value)) in fields.iter().enumerate() {
                    f.write_str(if n > 0 { "," } else { "" })?;
                    string(name, f)?;
                    write!(f, ":{value}")?;
                }
                f.write_char('}')
            }
        }
    }
}

/// Writes a string with its quotes, on one line.
pub(super) fn string(text: &str, out: &mut impl fmt::Write) -> fmt::Result {
    out.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(out, "\\{c}")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            '\0'..='\x1f' | '\x7f' => write!(out, "\\u{:04x}", u32::from(c))?,
            _ => out.write_char(c)?,
        }
    }
    out.write_char('"')
}

struct Parser<'a> {
    text: &'a str,
    /// How many bytes were read: never within a character.
    at: usize,
}

impl Parser<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, BadJson> {
        if depth > limits::JSON_DEPTH {
            return Err(BadJson::Deep);
        }
        match self.peek()? {
            '"' => self.string().map(Value::String),
            '[' => self.list(']', |parser| parser.value(depth + 1)).map(Value::Array),
            '{' => {
                let fields = self.list('}', |parser| {
                    parser.peek()?;
                    let name = parser.string()?;
                    parser.peek()?;
                    parser.token(':')?;
                    Ok((name, parser.value(depth + 1)?))
                });
                fields.map(Value::Object)
            }
            't' => self.word("true", Value::Bool(true)),
            'f' => self.word("false", Value::Bool(false)),
            'n' => self.word("null", Value::Null),
            _ => self.number(),
        }
    }

    /// What is between brackets, with commas in between.
    fn list<T>(
        &mut self,
        end: char,
        mut item: impl FnMut(&mut Self) -> Result<T, BadJson>,
    ) -> Result<Vec<T>, BadJson> {
        self.take();
        let mut items = Vec::new();
        if self.peek()? == end {
            self.take();
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            let next = self.peek()?;
            if next != ',' && next != end {
                return Err(self.unexpected());
            }
            self.take();
            if next == end {
                return Ok(items);
            }
        }
    }

    fn string(&mut self) -> Result<String, BadJson> {
        self.token('"')?;
        let mut text = String::new();
        loop {
            match self.here()? {
                '\0'..='\x1f' => return Err(self.unexpected()),
                '"' => {
                    self.take();
                    return Ok(text);
                }
                '\\' => {
                    self.take();
                    text.push(self.escaped()?);
                }
                c => {
                    self.take();
                    text.push(c);
                }
            }
        }
    }

    /// What is behind a backslash.
    fn escaped(&mut self) -> Result<char, BadJson> {
        let c = match self.here()? {
            c @ ('"' | '\\' | '/') => c,
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                self.take();
                return self.unit_escaped();
            }
            _ => return Err(self.unexpected()),
        };
        self.take();
        Ok(c)
    }

    /// Characters beyond the first 65,536 are two units of UTF-16. Half of such a pair is no character.
    fn unit_escaped(&mut self) -> Result<char, BadJson> {
        let mut units = [self.unit()?, 0];
        let is_pair = (0xd800..0xdc00).contains(&units[0]);
        if is_pair {
            self.token('\\')?;
            self.token('u')?;
            units[1] = self.unit()?;
        }
        match char::decode_utf16(units).next() {
            Some(Ok(c)) => Ok(c),
            _ => Err(self.unexpected()),
        }
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Result<u16, BadJson> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.here()?.to_digit(16).ok_or_else(|| self.unexpected())?;
            unit = unit << 4 | digit as u16;
            self.take();
        }
        Ok(unit)
    }

    fn number(&mut self) -> Result<Value, BadJson> {
        let start = self.at;
        if self.is_here("-") {
            self.take();
        }
        match self.here()? {
            '0' => self.take(),
            _ => self.digits()?,
        }
        if self.is_here(".") {
            self.take();
            self.digits()?;
        }
        if self.is_here("eE") {
            self.take();
            if self.is_here("+-") {
                self.take();
            }
            self.digits()?;
        }
        Ok(Value::Number(self.text[start..self.at].into()))
    }

    /// One or more.
    fn digits(&mut self) -> Result<(), BadJson> {
        if !self.here()?.is_ascii_digit() {
            return Err(self.unexpected());
        }
        while self.is_here("0123456789") {
            self.take();
        }
        Ok(())
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, BadJson> {
        word.chars().try_for_each(|c| self.token(c))?;
        Ok(value)
    }

    fn token(&mut self, c: char) -> Result<(), BadJson> {
        if self.here()? != c {
            return Err(self.unexpected());
        }
        self.take();
        Ok(())
    }

    /// The next character that is no white space.
    fn peek(&mut self) -> Result<char, BadJson> {
        while self.is_here(" \t\r\n") {
            self.take();
        }
        self.here()
    }

    fn here(&self) -> Result<char, BadJson> {
        self.text[self.at..].chars().next().ok_or(BadJson::End)
    }

    fn is_here(&self, any: &str) -> bool {
        self.here().is_ok_and(|c| any.contains(c))
    }

    fn take(&mut self) {
        self.at += self.here().map_or(0, char::len_utf8);
    }

    fn unexpected(&self) -> BadJson {
        self.here().map_or_else(|end| end, |found| BadJson::Unexpected { found, at: self.at })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tinyjson::JsonValue;

    use super::*;

    /// What another reader makes of the same text.
    fn read_by_tinyjson(text: &str) -> Option<JsonValue> {
        text.parse().ok()
    }

    fn is_the_same(ours: &Value, theirs: &JsonValue) -> bool {
        match (ours, theirs) {
            (Value::Null, JsonValue::Null) => true,
            (Value::Bool(ours), JsonValue::Boolean(theirs)) => ours == theirs,
            (Value::Number(ours), JsonValue::Number(theirs)) => ours.parse() == Ok(*theirs),
            (Value::String(ours), JsonValue::String(theirs)) => ours == theirs,
            (Value::Array(ours), JsonValue::Array(theirs)) => {
                ours.len() == theirs.len()
                    && ours.iter().zip(theirs).all(|(one, other)| is_the_same(one, other))
            }
            (Value::Object(fields), JsonValue::Object(theirs)) => {
                theirs.iter().all(|(name, other)| ours.field(name).is_some_and(|one| is_the_same(one, other)))
                    && fields.iter().all(|(name, _)| theirs.contains_key(name))
            }
            _ => false,
        }
    }

    #[test]
    fn values_are_read_and_written() {
        let text = r#" {"a":[1,-0.5e+3,true,null,{}],"b":"\u00fc\ud83e\uddab\n\/","a":[]} "#;
        let value = parse(text).expect("JSON");
        assert_eq!(value.field("a"), Some(&Value::Array(Vec::new())), "the last one counts");
        assert_eq!(value.field("b").and_then(Value::text), Some("ü🦫\n/"));
        assert_eq!(value.to_string(), r#"{"a":[1,-0.5e+3,true,null,{}],"b":"ü🦫\n/","a":[]}"#);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("", "too early"),
            (r#"{"a":1"#, "too early"),
            (r#""\u12"#, "too early"),
            ("[1,]", "']' at byte 3"),
            ("{a:1}", "'a' at byte 1"),
            ("01", "'1' at byte 1"),
            ("1.e3", "'e' at byte 2"),
            ("-", "too early"),
            ("+1", "'+' at byte 0"),
            ("tru", "too early"),
            ("trüe", "'ü' at byte 2"),
            (r#""\x""#, "'x' at byte 2"),
            ("\"a\nb\"", "'\\n' at byte 2"),
            (r#""\ud800\u0041""#, "at byte 13"),
            (r#""\udc00""#, "at byte 7"),
            ("{} {}", "'{' at byte 3"),
        ] {
            let why = parse(text).expect_err(text).to_string();
            assert!(why.contains(part), "{text}: {why}");
        }
    }

    #[test]
    fn it_ends_at_a_depth() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(&nested(limits::JSON_DEPTH + 1)).is_ok());
        assert!(matches!(parse(&nested(limits::JSON_DEPTH + 2)), Err(BadJson::Deep)));
        assert!(matches!(parse(&"[".repeat(limits::LINE_BYTES)), Err(BadJson::Deep)));
    }

    proptest! {
        #[test]
        fn others_read_the_same(
            text in r#"[]\[{}:,"\\a-u0-9.E ]{0,40}|[\[{]("[a-z]{0,3}":)?-?[0-9.eE]{1,6},?[]}]"#,
        ) {
            let (ours, theirs) = (parse(&text), read_by_tinyjson(&text));
            // The other one is less strict about numbers and pairs, and goes deeper.
            if let Ok(ours) = &ours {
                prop_assert!(theirs.is_some_and(|theirs| is_the_same(ours, &theirs)), "{text}: {ours:?}");
            }
        }

        #[test]
        fn what_was_written_is_read(text: String, number: i64) {
            let value = Value::Object(vec![
                (text.clone(), Value::Array(vec![Value::String(text), Value::Bool(false)])),
                ("n".into(), Value::Number(number.to_string())),
            ]);
            let line = value.to_string();
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(parse(&line).ok(), Some(value.clone()));
            prop_assert!(read_by_tinyjson(&line).is_some_and(|theirs| is_the_same(&value, &theirs)));
        }

        #[test]
        fn any_text_is_a_value_or_an_error(text: String) {
            let _ = parse(&text);
        }
    }
}
