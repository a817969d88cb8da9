//! Tells Prometheus what a node does: `/metrics`, and `/healthz` for those who only want to know whether it lives.
//!
//! The numbers are the node's own ([`Snapshot`]); they are put together and written down
//! when somebody asks, and cost nothing while nobody does.

mod classic;
mod encode;
mod process;
#[cfg(test)]
mod tests;

use std::{io, net::SocketAddr, sync::Arc};

use smol::Executor;

use super::http::{Outcome, Request, Response, Server};
use crate::{
    limits,
    node::api::{Handle, Snapshot},
    within::within,
};

/// Listens for those who ask.
pub struct Endpoint {
    server: Server,
    is_loopback: bool,
}

/// The text format of OpenMetrics.
const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// That of Prometheus before there was OpenMetrics.
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Endpoint {
    /// Listens at this address.
    pub fn bind(addr: SocketAddr) -> Result<Self, (SocketAddr, io::Error)> {
        let bind = || {
            let server = Server::bind(addr)?;
            Ok((server.local_addr()?, server))
        };
        let (addr, server) = bind().map_err(|e| (addr, e))?;
        let is_loopback = addr.ip().is_loopback();
        if !is_loopback {
            log::warn!(
                "--metrics {addr}: whoever reaches this address reads the names of rooms and how much is said there"
            );
        }
        log::info!("metrics are at http://{addr}/metrics");
        Ok(Self { server, is_loopback })
    }

    /// Answers until it is dropped.
    pub async fn run(self, executor: Arc<Executor<'static>>, handle: Handle) {
        let Self { server, is_loopback } = self;
        let handler = move |request: Request| {
            let handle = handle.clone();
            async move { Outcome::Answer(answer(&request, is_loopback, &handle).await) }
        };
        server.run(executor, handler).await;
    }
}

async fn answer(request: &Request, is_loopback: bool, handle: &Handle) -> Response {
    // What is told to this machine only is not for web pages that its browsers show.
    if is_loopback && !request.is_for_this_machine() {
        return Response::text(421, "this server is asked by an IP address or as localhost\n");
    }
    if !matches!(request.method(), "GET" | "HEAD") {
        return Response::text(405, "this server is asked by GET\n").with("allow", "GET, HEAD");
    }
    let is_metrics = match request.path() {
        "/metrics" => true,
        "/healthz" => false,
        _ => return Response::text(404, "there are /metrics and /healthz\n"),
    };
    // A node that does not tell its numbers does nothing else either.
    match within(limits::LOOK_TIME, handle.look()).await.flatten() {
        Some(snapshot) if is_metrics => metrics(request, snapshot),
        Some(_) => Response::text(200, "ok\n"),
        None => Response::text(503, "the node does not answer\n"),
    }
}

fn metrics(request: &Request, snapshot: Box<Snapshot>) -> Response {
    let Ok(text) = encode::encode(snapshot, process::Usage::now()) else {
        return Response::text(503, "the metrics cannot be written down\n");
    };
    let is_open =
        request.header("accept").is_some_and(|types| types.contains("application/openmetrics-text"));
    let response = match is_open {
        true => Response::new(200, OPEN, text),
        false => Response::new(200, CLASSIC, classic::of(&text)),
    };
    response.with("vary", "accept")
}
