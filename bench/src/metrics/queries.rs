//! What is asked of Prometheus: the dashboard's queries, and the metrics that alert rules look at.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::prometheus::Prometheus;

/// Something that must find data.
pub(super) struct Query {
    /// Where it stands.
    pub(super) place: String,
    pub(super) expr: String,
}

/// The dashboard's variables for a test: everything, and rates over some scrapes of one second.
const VARIABLES: [(&str, &str); 3] = [("$__rate_interval", "10s"), ("$instance", ".*"), ("$room", ".*")];

/// All of both. An alert that is quiet finds nothing, as it should; so each metric in it is asked for by itself.
pub(super) fn all(dashboard: &Path, prometheus: &Prometheus) -> Result<Vec<Query>> {
    let text = std::fs::read_to_string(dashboard).with_context(|| format!("no {}", dashboard.display()))?;
    let mut queries = of_dashboard(&serde_json::from_str(&text)?);
    for rule in prometheus.rules()? {
        for expr in selectors(&rule.query) {
            queries.push(Query { place: rule.name.clone(), expr });
        }
    }
    Ok(queries)
}

fn of_dashboard(dashboard: &Value) -> Vec<Query> {
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().into_iter().flatten() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let mut expr = target["expr"].as_str().unwrap_or_default().to_owned();
            for (variable, value) in VARIABLES {
                expr = expr.replace(variable, value);
            }
            let place = panel["title"].as_str().unwrap_or_default().to_owned();
            queries.push(Query { place, expr });
        }
    }
    queries
}

/// The metrics that an expression looks at, with their labels: words with an underscore before which there is no part
/// of another word, and `up`.
fn selectors(expr: &str) -> Vec<String> {
    let (mut found, mut rest, mut depth) = (Vec::new(), expr, 0);
    while let Some(c) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        match c {
            '"' => {
                let end = rest[1..].find('"').map_or(rest.len(), |end| end + 2);
                rest = &rest[end..];
            }
            '{' | '[' => (depth, rest) = (depth + 1, &rest[1..]),
            '}' | ']' => (depth, rest) = (depth - 1, &rest[1..]),
            _ if word == 0 => rest = &rest[c.len_utf8()..],
            _ => {
                let (name, behind) = rest.split_at(word);
                if depth == 0 && (name == "up" || name.starts_with("warren_") || name.starts_with("process_"))
                {
                    let labels = match (behind.starts_with('{'), behind.find('}')) {
                        (true, Some(end)) => &behind[..=end],
                        _ => "",
                    };
                    found.push(format!("{name}{labels}"));
                }
                rest = behind;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_of_a_rule_are_found() {
        let expr = r#"sum by (warren_x) (rate(warren_a_total{f="warren_b", g!="}"}[5m])) > 0 and up == 1 unless process_c"#;
        // A name in brackets of `by` is asked for, too, which does no harm but to who names a label like that.
        assert_eq!(selectors(expr)[1..], [r#"warren_a_total{f="warren_b", g!="}"#, "up", "process_c"]);
        assert!(selectors("vector(1)").is_empty());
    }

    #[test]
    fn variables_of_the_dashboard_are_replaced() {
        let panel = serde_json::json!({"panels": [{"title": "t", "targets": [
            {"expr": "rate(x{instance=~\"$instance\"}[$__rate_interval])"}]}]});
        let queries = of_dashboard(&panel);
        assert_eq!((queries.len(), queries[0].expr.as_str()), (1, "rate(x{instance=~\".*\"}[10s])"));
    }
}
