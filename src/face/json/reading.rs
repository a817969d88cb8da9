//! The schema read from its other end: what a node says, for `warren ctl`.

use std::collections::HashMap;

use tinyjson::JsonValue;

/// One line of a node, or an object within. What is not there is empty.
#[derive(Debug)]
pub struct Reading(HashMap<String, JsonValue>);

impl Reading {
    /// `None` if it is no JSON object.
    pub fn of(line: &str) -> Option<Self> {
        Some(Self(line.parse::<JsonValue>().ok()?.try_into().ok()?))
    }

    /// A string.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(|value| value.get::<String>()).map_or("", String::as_str)
    }

    /// A number.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.0.get(name).and_then(|value| value.get::<f64>()).copied()
    }

    /// Strings.
    pub fn texts(&self, name: &str) -> Vec<&str> {
        self.list(name).iter().filter_map(|value| value.get::<String>()).map(String::as_str).collect()
    }

    /// Objects.
    pub fn objects(&self, name: &str) -> Vec<Reading> {
        let object = |value: &JsonValue| value.get::<HashMap<_, _>>().cloned();
        self.list(name).iter().filter_map(object).map(Reading).collect()
    }

    fn list(&self, name: &str) -> &[JsonValue] {
        self.0.get(name).and_then(|value| value.get::<Vec<JsonValue>>()).map_or(&[], Vec::as_slice)
    }
}
