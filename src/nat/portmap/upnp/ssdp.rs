//! The search for the gateway's description (UPnP Device Architecture 1.1, section 1.3).

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
};

use async_io::Async;
use futures::future::{Either, select};
use futures_timer::Delay;
use socket2::SockRef;

use super::{Place, Url};
use crate::{limits, within::within};

pub(super) const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 250), 1900);

/// What is searched for. A device of version 2 answers to 1 too (section 1.3.2), but not all that should do.
const TARGETS: [&str; 2] = [
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
];

/// Where the gateway says its descriptions are, in the order of its answers: as soon as there is one, or none after
/// [`limits::UPNP_SEARCH`].
pub(super) async fn search(place: Place) -> io::Result<Vec<Url>> {
    let socket = Async::<UdpSocket>::bind(SocketAddr::new(place.own.into(), 0))?;
    let options = SockRef::from(&socket);
    options.set_multicast_if_v4(&place.own)?;
    // Two hops are the default of section 1.3.3; the gateway is one away.
    options.set_multicast_ttl_v4(1)?;

    let mut found = Vec::new();
    let listen = Box::pin(collect(&socket, place, &mut found));
    let repeat = Box::pin(async {
        send(&socket, place).await;
        Delay::new(limits::UPNP_SEARCH_AGAIN).await;
        send(&socket, place).await;
        futures::future::pending::<()>().await;
    });
    let listened = match within(limits::UPNP_SEARCH, select(listen, repeat)).await {
        Some(Either::Left((result, _))) => result,
        _ => Ok(()),
    };
    listened.map(|()| found)
}

/// What is not sent will not be answered.
async fn send(socket: &Async<UdpSocket>, place: Place) {
    for to in place.search {
        for target in TARGETS {
            let request = format!(
                "M-SEARCH * HTTP/1.1\r\nHOST: {GROUP}\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: {target}\r\n\r\n"
            );
            if let Err(error) = socket.send_to(request.as_bytes(), to).await {
                log::debug!("searching for UPnP at {to}: {error}");
            }
        }
    }
}

/// Ends when there is an answer and no more are waiting to be read.
async fn collect(socket: &Async<UdpSocket>, place: Place, found: &mut Vec<Url>) -> io::Result<()> {
    let mut buffer = [0; limits::PORTMAP_DATAGRAM_BYTES];
    let mut seen = 0;
    while seen < limits::UPNP_ANSWERS && found.len() < limits::UPNP_LOCATIONS {
        let (len, from) = match socket.get_ref().recv_from(&mut buffer) {
            Ok(datagram) => datagram,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !found.is_empty() {
                    return Ok(());
                }
                socket.readable().await?;
                continue;
            }
            // An answer by ICMP to one of the searches; it says nothing of the others.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => (0, place.search[0].into()),
            Err(error) => return Err(error),
        };
        seen += 1;
        if from.ip() != place.gateway {
            continue;
        }
        let Some(location) = location(&buffer[..len]) else { continue };
        match Url::on(place.gateway, location) {
            Some(url) if !found.contains(&url) => found.push(url),
            Some(_) => {}
            None => log::debug!("{} says that its description is at {location:?}", place.gateway),
        }
    }
    Ok(())
}

/// The `LOCATION` in an answer to a search.
fn location(datagram: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(datagram).ok()?;
    let mut lines = text.split("\r\n");
    if !lines.next()?.starts_with("HTTP/1.1 200") {
        return None;
    }
    let header = |line: &&str| {
        line.split_at_checked(9).is_some_and(|(name, _)| name.eq_ignore_ascii_case("location:"))
    };
    lines.find(header).map(|line| line[9..].trim())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_location_is_read_from_an_answer() {
        let answer = "HTTP/1.1 200 OK\r\nST: x\r\nLocation: http://192.168.1.1:5000/root.xml \r\n\r\n";
        assert_eq!(location(answer.as_bytes()), Some("http://192.168.1.1:5000/root.xml"));
        assert_eq!(location(b"NOTIFY * HTTP/1.1\r\nLOCATION: http://192.168.1.1/\r\n\r\n"), None);
        assert_eq!(location(b"HTTP/1.1 200 OK\r\nLOCATIO\xc3\xbc: x\r\n\r\n"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>, text: String) {
            let _ = location(&bytes);
            let _ = location(format!("HTTP/1.1 200\r\n{text}").as_bytes());
        }
    }
}
