//! `metrics`: a real Prometheus scrapes two nodes that talk, and every query of the dashboard and every alert rule that
//! is committed beside finds its data.
//!
//! ```text
//!   relay ◀── loopback: QUIC, STUN ──▶ node
//!     ▲                                  ▲
//!     └──── /metrics ── Prometheus ──────┘ ◀── queries of cluster/grafana/warren.json, rules of cluster/alerts.yml
//! ```

mod prometheus;
mod queries;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use argh::FromArgs;
use serde_json::json;

pub(crate) use self::prometheus::get;
use self::prometheus::{Prometheus, promtool};
use self::queries::Query;
use crate::node::{Node, PROMPTLY};
use crate::program::{self, Data, Profile};
use crate::scratch::Scratch;

/// How long the numbers may take to be there: rates need several scrapes, one a second.
const PATIENCE: Duration = Duration::from_secs(40);

/// Between two messages, and between two looks.
const PACE: Duration = Duration::from_millis(200);

/// Checks with a real Prometheus that the dashboard and the alerts find the metrics that nodes tell.
#[derive(FromArgs)]
#[argh(subcommand, name = "metrics")]
pub(crate) struct Args {
    /// warren to check (default: built)
    #[argh(option)]
    warren: Option<PathBuf>,
    /// build with the profile for measuring, which others may have built already, instead of dev
    #[argh(switch)]
    measured: bool,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let profile = if args.measured { Profile::Measured } else { Profile::Dev };
    let program = program::warren(args.warren, Data::Envelope, profile)?;
    let scratch = Scratch::new()?;
    let cluster = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster");
    promtool(&["check", "config"], &cluster.join("prometheus.yml"))?;

    let ports = [free_port()?, free_port()?];
    let mut relay = program.start_watched("relay", ports[0], &[], &scratch)?;
    let addr = quic_addr(&mut relay)?;
    let stun = stun_server(&addr)?;
    let mut node = program.start_watched("run", ports[1], &["--stun-server", &stun], &scratch)?;
    node.listening()?;

    let prometheus = Prometheus::start(&cluster, &ports, &scratch)?;
    until("both nodes are scraped", || Ok(prometheus.value("sum(up)")? == Some(2.0)))?;
    // From here on everything happens under its eyes.
    node.command(json!({"cmd": "connect", "addr": addr}))?;
    relay.members(1)?;
    node.members(1)?;
    for port in ports {
        let page = get(port, "/metrics")?;
        let path = scratch.path("page");
        std::fs::write(&path, page)?;
        promtool(&["check", "metrics"], &path)?;
    }

    let queries = queries::all(&cluster.join("grafana/warren.json"), &prometheus)?;
    ensure!(queries.len() > 50, "only {} queries are found in dashboard and rules", queries.len());
    let mut missing: Vec<&Query> = queries.iter().collect();
    let (deadline, mut said) = (Instant::now() + PATIENCE, 0);
    while !missing.is_empty() && Instant::now() < deadline {
        // Rates are of what goes on, so it does.
        for _ in 0..5 {
            said += 1;
            [&mut node, &mut relay][said % 2].send(&format!("message {said}"))?;
            std::thread::sleep(PACE);
        }
        let mut still = Vec::new();
        for query in missing {
            if !prometheus.has_data(&query.expr)? {
                still.push(query);
            }
        }
        missing = still;
    }
    report(&queries, &missing, said);
    ensure!(missing.is_empty(), "{} of {} queries found no data", missing.len(), queries.len());
    let rules = prometheus.rules()?;
    if let Some(rule) = rules.iter().find(|rule| rule.health != "ok") {
        bail!("the rule {} is not well, but {}", rule.name, rule.health);
    }
    println!("{} alert rules evaluate without error", rules.len());
    node.stop()?;
    relay.stop()
}

fn quic_addr(node: &mut Node) -> Result<String> {
    let is_quic = |event: &crate::node::Event| event.is("listening") && event.str("addr").contains("/udp/");
    Ok(node.wait("listening over QUIC", PROMPTLY, is_quic)?.str("addr").to_owned())
}

/// A relay answers STUN at its QUIC port.
fn stun_server(addr: &str) -> Result<String> {
    let port = addr.split('/').nth(4).context("no port in the relay's address")?;
    Ok(format!("127.0.0.1:{port}"))
}

/// A port that nobody listens at now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(PACE);
    }
    Ok(())
}

fn report(queries: &[Query], missing: &[&Query], said: usize) {
    for query in queries {
        let is_missing = missing.iter().any(|other| std::ptr::eq(*other, query));
        let found = if is_missing { "NO DATA" } else { "data" };
        println!("{found:7}  {}: {}", query.place, query.expr);
    }
    println!(
        "{} of {} queries found data, after {said} messages",
        queries.len() - missing.len(),
        queries.len()
    );
}
