//! A relay in the lab: where it is.

use anyhow::Result;

use crate::node::{Event, Node, PROMPTLY};

/// Its addresses on the Internet, of both carriers: nobody knows what a home lets through.
pub(crate) fn addresses(relay: &mut Node) -> Result<[String; 2]> {
    let wanted = |event: &Event, carrier: &str| {
        let addr = event.str("addr");
        event.is("listening") && addr.starts_with("/ip4/11.") && addr.contains(carrier)
    };
    let udp = relay.wait("a QUIC address", PROMPTLY, |event| wanted(event, "/udp/"))?;
    let tcp = relay.wait("a TCP address", PROMPTLY, |event| wanted(event, "/tcp/"))?;
    Ok([udp, tcp].map(|event| event.str("addr").to_owned()))
}
