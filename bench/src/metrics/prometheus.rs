//! A Prometheus of our own, on loopback, with the committed configuration at another pace. It ends with its handle.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{free_port, until};
use crate::scratch::Scratch;

pub(super) struct Prometheus {
    child: Child,
    port: u16,
}

/// A rule, as Prometheus has read it.
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) query: String,
    /// `ok`, `err` or `unknown`.
    pub(super) health: String,
}

impl Prometheus {
    /// Scrapes these ports once a second. Returns when it answers.
    pub(super) fn start(cluster: &Path, scraped: &[u16], scratch: &Scratch) -> Result<Self> {
        let mut config = std::fs::read_to_string(cluster.join("prometheus.yml"))?;
        let targets: Vec<String> = scraped.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
        let rules = cluster.join("alerts.yml").display().to_string();
        for (committed, ours) in [
            ("scrape_interval: 15s", "scrape_interval: 1s"),
            ("evaluation_interval: 15s", "evaluation_interval: 1s"),
            ("[\"127.0.0.1:9464\"]", &format!("[{}]", targets.join(", "))),
            ("- alerts.yml", &format!("- {rules}")),
        ] {
            ensure!(config.matches(committed).count() == 1, "prometheus.yml has no '{committed}'");
            config = config.replace(committed, ours);
        }
        let file = scratch.path("prometheus.yml");
        std::fs::write(&file, config)?;
        let port = free_port()?;
        let log = scratch.path("prometheus.log");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", scratch.path("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .context("cannot start prometheus (Debian has it in the package prometheus)")?;
        let mut prometheus = Prometheus { child, port };
        until("Prometheus is ready", || {
            if let Some(status) = prometheus.child.try_wait()? {
                bail!(
                    "Prometheus ended with {status}: {}",
                    std::fs::read_to_string(&log).unwrap_or_default()
                );
            }
            Ok(get(port, "/-/ready").is_ok())
        })?;
        Ok(prometheus)
    }

    /// Whether a query finds a number; one that is not a number is none.
    pub(super) fn has_data(&self, query: &str) -> Result<bool> {
        let samples = self.query(query)?;
        Ok(samples.iter().any(|value| !value.is_nan()))
    }

    /// The one number that a query finds, if it does.
    pub(super) fn value(&self, query: &str) -> Result<Option<f64>> {
        Ok(self.query(query)?.first().copied())
    }

    /// The rules that it evaluates.
    pub(super) fn rules(&self) -> Result<Vec<Rule>> {
        let answer = self.api("/api/v1/rules")?;
        let groups = answer["groups"].as_array().context("no groups of rules")?;
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten());
        let text = |rule: &Value, field: &str| rule[field].as_str().unwrap_or_default().to_owned();
        let rule = |rule: &Value| Rule {
            name: text(rule, "name"),
            query: text(rule, "query"),
            health: text(rule, "health"),
        };
        Ok(rules.map(rule).collect())
    }

    fn query(&self, query: &str) -> Result<Vec<f64>> {
        let mut path = String::from("/api/v1/query?query=");
        for byte in query.bytes() {
            match byte.is_ascii_alphanumeric() {
                true => path.push(byte.into()),
                false => write!(path, "%{byte:02X}")?,
            }
        }
        let answer = self.api(&path).with_context(|| format!("the query {query}"))?;
        let result = answer["result"].as_array().context("no result")?;
        let number = |sample: &Value| sample["value"][1].as_str()?.parse().ok();
        Ok(result.iter().filter_map(number).collect())
    }

    fn api(&self, path: &str) -> Result<Value> {
        let mut answer: Value = serde_json::from_str(&get(self.port, path)?)?;
        ensure!(answer["status"] == "success", "Prometheus answers {answer}");
        Ok(answer["data"].take())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a server on loopback answers.
pub(crate) fn get(port: u16, path: &str) -> Result<String> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    // In HTTP/1.0 an answer comes in one piece, and ends with the connection.
    write!(socket, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let is_json = head.contains("application/json");
    ensure!(is_json || head.split(' ').nth(1) == Some("200"), "GET {path}: {head}");
    Ok(body.to_owned())
}

/// Has Debian's tool look at a file; `check metrics` reads it from its input.
pub(super) fn promtool(words: &[&str], file: &Path) -> Result<()> {
    let mut command = Command::new("promtool");
    command.args(words);
    match words.last() {
        Some(&"metrics") => command.stdin(File::open(file)?),
        _ => command.arg(file),
    };
    let output =
        command.output().context("cannot start promtool (Debian has it in the package prometheus)")?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "promtool {}: {}", words.join(" "), String::from_utf8_lossy(&said));
    Ok(())
}
