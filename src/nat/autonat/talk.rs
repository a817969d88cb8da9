//! The conversation, both sides of it. Whoever holds one bounds its time.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    pin::Pin,
    task::{Context, Poll},
};

use futures::{
    AsyncRead, AsyncWrite, AsyncWriteExt,
    future::{Either, poll_fn, select},
};
use libp2p::{
    Multiaddr, PeerId,
    core::{
        StreamMuxer,
        muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox},
        upgrade::Version,
    },
};
use multistream_select::{Negotiated, dialer_select_proto};

use super::{
    DIAL_BACK,
    client::Outcome,
    server::{Terms, Wanted},
    wire::{
        DialBack, DialBackResponse, DialDataRequest, DialDataResponse, DialRequest, DialResponse, Message,
        Part, dial_status, invalid, read, status, write,
    },
};
use crate::{limits, within::within};

/// Asks to be dialled at `addr`, and sends up to `allowance` bytes if the server wants to see some. Returns how that
/// went, and how many bytes were sent.
pub async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    addr: &Multiaddr,
    nonce: u64,
    allowance: u32,
) -> (Outcome, u32) {
    let mut sent = 0;
    let outcome = converse(stream, addr, nonce, allowance, &mut sent).await.unwrap_or_else(|e| {
        log::debug!("nobody says whether {addr} can be dialled: {e}");
        Outcome::Failed
    });
    (outcome, sent)
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    addr: &Multiaddr,
    nonce: u64,
    allowance: u32,
    sent: &mut u32,
) -> io::Result<Outcome> {
    let request = DialRequest { addrs: vec![addr.to_vec()], nonce };
    write(&mut stream, &Message { part: Some(Part::Request(request)) }).await?;
    // It is asked about one address, so there is one index; and it wants to see bytes once at the most.
    let response = match read::<Message>(&mut stream).await?.part {
        Some(Part::DataRequest(DialDataRequest { index: 0, bytes })) if *sent == 0 => {
            let bytes = u32::try_from(bytes).ok().filter(|bytes| *bytes <= limits::AUTONAT_DATA_MOST);
            let bytes = bytes.ok_or_else(|| invalid("a wish for more bytes than the specification has"))?;
            if bytes > allowance {
                // The stream is reset, which is how one says no.
                return Ok(Outcome::Declined);
            }
            *sent = bytes;
            pay(&mut stream, bytes).await?;
            read::<Message>(&mut stream).await?.part
        }
        other => other,
    };
    // What we do not close by word, its drop would reset; the server has nothing more to say either way.
    let _ = stream.close().await;
    let Some(Part::Response(DialResponse { status, index, dial_status })) = response else {
        return Err(invalid("something else than an answer"));
    };
    match (status, index, dial_status) {
        (status::OK, 0, dial_status::OK) => Ok(Outcome::Reached),
        (status::OK, 0, dial_status::NO_CONNECTION) => Ok(Outcome::Unreached),
        // There was a connection, and no more than that: perhaps somebody else's.
        (status::OK, 0, dial_status::NO_DIAL_BACK) | (status::REFUSED, ..) => Ok(Outcome::Declined),
        (status::REJECTED, ..) => Ok(Outcome::Busy),
        _ => Err(invalid("an answer that makes no sense")),
    }
}

async fn pay(stream: &mut (impl AsyncWrite + Unpin), bytes: u32) -> io::Result<()> {
    let mut left = bytes as usize;
    while left > 0 {
        let data = vec![0; left.min(limits::AUTONAT_DATA_PIECE)];
        left -= data.len();
        write(stream, &Message { part: Some(Part::Data(DialDataResponse { data })) }).await?;
    }
    Ok(())
}

/// Somebody came back: with which nonce?
pub async fn hear(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<u64> {
    Ok(read::<DialBack>(stream).await?.nonce)
}

/// It was the right one.
pub async fn confirm(mut stream: impl AsyncWrite + Unpin) -> io::Result<()> {
    write(&mut stream, &DialBackResponse { status: 0 }).await?;
    stream.close().await
}

/// A peer that wants to be dialled, and waits for what comes of it.
pub struct Request<S> {
    stream: S,
    wanted: Wanted,
    nonce: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Request<S> {
    /// Hears what is wanted, and has the asker pay if it is not for itself. `None`: it was told that nothing is
    /// dialled.
    ///
    /// # Errors
    /// When the asker breaks off, or does not keep to the protocol.
    pub async fn receive(stream: S, terms: &Terms, price: u32) -> io::Result<Option<Self>> {
        Self::receive_by(stream, terms, price, has_route).await
    }

    async fn receive_by(
        mut stream: S,
        terms: &Terms,
        price: u32,
        has_route: impl Fn(IpAddr) -> bool,
    ) -> io::Result<Option<Self>> {
        let Some(Part::Request(request)) = read::<Message>(&mut stream).await?.part else {
            return Err(invalid("something else than a request"));
        };
        let Some(wanted) = terms.choose(&request.addrs, has_route) else {
            respond(stream, DialResponse { status: status::REFUSED, index: 0, dial_status: 0 }).await?;
            return Ok(None);
        };
        if wanted.is_others {
            let wish = DialDataRequest { index: wanted.index, bytes: price.into() };
            write(&mut stream, &Message { part: Some(Part::DataRequest(wish)) }).await?;
            be_paid(&mut stream, price).await?;
        }
        Ok(Some(Request { stream, wanted, nonce: request.nonce }))
    }

    /// What to dial.
    pub fn addr(&self) -> &Multiaddr {
        &self.wanted.addr
    }

    /// Dials, hands the nonce over, and tells the asker. Returns whether it was reached.
    ///
    /// # Errors
    /// When the asker is not there any more to be told.
    pub async fn carry_out<E>(
        self,
        asker: PeerId,
        dial: impl Future<Output = Result<(PeerId, StreamMuxerBox), E>>,
    ) -> io::Result<bool> {
        let connection = within(limits::AUTONAT_DIAL, dial).await.and_then(Result::ok);
        // Whoever else is there, it is not the asker.
        let dial_status = match connection.filter(|(peer, _)| *peer == asker) {
            None => dial_status::NO_CONNECTION,
            Some((_, muxer)) => {
                match within(limits::AUTONAT_HANDOVER, hand_over(muxer, self.nonce)).await.flatten() {
                    Some(()) => dial_status::OK,
                    None => dial_status::NO_DIAL_BACK,
                }
            }
        };
        let response = DialResponse { status: status::OK, index: self.wanted.index, dial_status };
        respond(self.stream, response).await?;
        Ok(dial_status == dial_status::OK)
    }
}

/// Tells the asker that there is no place for it now.
pub async fn reject(stream: impl AsyncWrite + Unpin) -> io::Result<()> {
    respond(stream, DialResponse { status: status::REJECTED, index: 0, dial_status: 0 }).await
}

async fn respond(mut stream: impl AsyncWrite + Unpin, response: DialResponse) -> io::Result<()> {
    write(&mut stream, &Message { part: Some(Part::Response(response)) }).await?;
    stream.close().await
}

async fn be_paid(stream: &mut (impl AsyncRead + Unpin), price: u32) -> io::Result<()> {
    let mut paid = 0;
    for _ in 0..limits::AUTONAT_DATA_MESSAGES {
        match read::<Message>(stream).await?.part {
            Some(Part::Data(DialDataResponse { data })) => paid += data.len(),
            _ => return Err(invalid("something else than the bytes it was asked for")),
        }
        if paid >= price as usize {
            return Ok(());
        }
    }
    Err(invalid("its bytes one by one"))
}

/// Whether this machine has a way to an address. Asks the kernel, and sends nothing.
fn has_route(ip: IpAddr) -> bool {
    let any: IpAddr = if ip.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0));
    socket.is_ok_and(|socket| socket.connect(SocketAddr::new(ip, 9)).is_ok())
}

/// Opens a stream on a connection that is nobody else's, and closes both when the nonce has arrived.
async fn hand_over(muxer: StreamMuxerBox, nonce: u64) -> Option<()> {
    let mut driven = Driven(muxer);
    let stream = poll_fn(|cx| driven.poll_open(cx)).await.ok()?;
    let told = async {
        let protocols = std::iter::once(DIAL_BACK);
        let negotiated = dialer_select_proto(stream, protocols, Version::V1).await;
        let (_, mut stream): (_, Negotiated<SubstreamBox>) = negotiated.map_err(io::Error::other)?;
        write(&mut stream, &DialBack { nonce }).await?;
        read::<DialBackResponse>(&mut stream).await?;
        // The client closes it too, and the connection goes next.
        let _ = stream.close().await;
        io::Result::Ok(())
    };
    let told = match select(std::pin::pin!(told), &mut driven).await {
        Either::Left((told, _)) => told.inspect_err(|e| log::debug!("a nonce was not taken: {e}")).ok(),
        Either::Right(((), _)) => None,
    };
    // Politely, so that the other side need not wonder; it is no matter if that fails.
    let _ = driven.0.close().await;
    told
}

/// A connection at work; done when it has failed. Streams that the other side opens are turned down.
struct Driven(StreamMuxerBox);

impl Driven {
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<SubstreamBox>> {
        match self.0.poll_outbound_unpin(cx) {
            Poll::Pending => match Pin::new(self).poll(cx) {
                Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Poll::Pending => Poll::Pending,
            },
            ready => ready,
        }
    }
}

impl Future for Driven {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.0.poll_unpin(cx) {
                // It says where the other side is now.
                Poll::Ready(Ok(_)) => continue,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            match Pin::new(&mut self.0).poll_inbound(cx) {
                Poll::Ready(Ok(stream)) => drop(stream),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests;
