//! The text format that Prometheus had before OpenMetrics, and that most other programs read.

/// The same in the older format: there the name of a counter in `# HELP` and `# TYPE` ends with `_total` as its samples
/// do, and there are neither units nor an end.
pub(super) fn of(open: &str) -> String {
    let mut text = String::with_capacity(open.len() + open.len() / 16);
    let mut help = None;
    for line in open.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take() {
                text += &format!("# HELP {name}{suffix} {help}\n");
            }
            text += &format!("# TYPE {name}{suffix} {kind}\n");
        } else if !line.starts_with('#') {
            text += line;
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_called_as_their_samples_are() {
        let open = "# HELP a_bytes Some words.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\na_bytes_total{x=\"# y\"} 1\n\
                    # HELP b More.\n# TYPE b gauge\nb 2\n# EOF\n";
        let classic = "# HELP a_bytes_total Some words.\n# TYPE a_bytes_total counter\na_bytes_total{x=\"# y\"} 1\n\
                       # HELP b More.\n# TYPE b gauge\nb 2\n";
        assert_eq!(of(open), classic);
    }
}
