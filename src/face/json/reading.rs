//! The schema read from its other end: what a node says, for `warren ctl`.

use super::value::{self, Value};

/// One line of a node, or an object within. What is not there is empty.
#[derive(Debug)]
pub struct Reading(Value);

impl Reading {
    /// `None` if it is no JSON object.
    pub fn of(line: &str) -> Option<Self> {
        value::parse(line).ok().filter(|value| matches!(value, Value::Object(_))).map(Self)
    }

    /// A string.
    pub fn text(&self, name: &str) -> &str {
        self.0.field(name).and_then(Value::text).unwrap_or_default()
    }

    /// A number as it is written.
    pub fn number(&self, name: &str) -> Option<&str> {
        if let Some(Value::Number(text)) = self.0.field(name) { Some(text) } else { None }
    }

    /// A whole number.
    pub fn count(&self, name: &str) -> Option<u64> {
        self.number(name)?.parse().ok()
    }

    /// Strings.
    pub fn texts(&self, name: &str) -> Vec<&str> {
        self.list(name).iter().filter_map(Value::text).collect()
    }

    /// Objects.
    pub fn objects(&self, name: &str) -> Vec<Reading> {
        let objects = self.list(name).iter().filter(|value| matches!(value, Value::Object(_)));
        objects.cloned().map(Reading).collect()
    }

    fn list(&self, name: &str) -> &[Value] {
        if let Some(Value::Array(values)) = self.0.field(name) { values } else { &[] }
    }
}
