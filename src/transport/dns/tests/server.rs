//! A name server that says what a test wants it to say.

use std::{
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Mutex},
};

use async_io::Async;
use futures::{AsyncReadExt, AsyncWriteExt};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE, rdata};

/// One query, as the server got it.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) id: u16,
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) by_tcp: bool,
    pub(super) from: SocketAddr,
    bytes: Vec<u8>,
}

pub(super) enum Answer {
    Silence,
    Truncated,
    Code(RCODE),
    Records(Vec<Record>),
    /// These bytes, one after the other.
    Datagrams(Vec<Vec<u8>>),
}

/// A record of the name that was asked for, unless it has an owner of its own.
pub(super) struct Record {
    owner: Option<String>,
    data: rdata::RData<'static>,
}

impl Record {
    pub(super) fn of(self, owner: &str) -> Self {
        Record { owner: Some(owner.to_owned()), ..self }
    }
}

impl From<rdata::RData<'static>> for Record {
    fn from(data: rdata::RData<'static>) -> Self {
        Record { owner: None, data }
    }
}

pub(super) fn a(ip: &str) -> Record {
    rdata::RData::A(ip.parse::<std::net::Ipv4Addr>().expect("an address").into()).into()
}

pub(super) fn aaaa(ip: &str) -> Record {
    rdata::RData::AAAA(ip.parse::<std::net::Ipv6Addr>().expect("an address").into()).into()
}

pub(super) fn txt(text: &str) -> Record {
    rdata::RData::TXT(rdata::TXT::try_from(text).expect("a text").into_owned()).into()
}

pub(super) fn cname(owner: &str, target: &str) -> Record {
    let target = Name::new(target).expect("a name").into_owned();
    Record::from(rdata::RData::CNAME(rdata::CNAME(target))).of(owner)
}

impl Asked {
    fn read(bytes: &[u8], from: SocketAddr, by_tcp: bool) -> Self {
        let packet = Packet::parse(bytes).expect("a query");
        assert!(packet.has_flags(PacketFlag::RECURSION_DESIRED));
        let question = &packet.questions[0];
        let kind = match question.qtype {
            QTYPE::TYPE(TYPE::A) => "A",
            QTYPE::TYPE(TYPE::AAAA) => "AAAA",
            QTYPE::TYPE(TYPE::TXT) => "TXT",
            other => panic!("nobody asks for {other:?}"),
        };
        let name = question.qname.to_string();
        Asked { id: packet.id(), name, kind, by_tcp, from, bytes: bytes.to_vec() }
    }

    /// The bytes of a good answer, which `spoil` may change.
    pub(super) fn reply(&self, records: Vec<Record>, spoil: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = self.packet(records, |_| ());
        spoil(&mut bytes);
        bytes
    }

    fn packet(&self, records: Vec<Record>, change: impl FnOnce(&mut Packet<'_>)) -> Vec<u8> {
        let mut packet = Packet::parse(&self.bytes).expect("a query").into_reply();
        packet.answers = records
            .into_iter()
            .map(|Record { owner, data }| {
                let owner = owner.unwrap_or_else(|| self.name.clone());
                let owner = Name::new(&owner).expect("a name").into_owned();
                ResourceRecord::new(owner, CLASS::IN, 60, data)
            })
            .collect();
        change(&mut packet);
        packet.build_bytes_vec_compressed().expect("a packet")
    }

    fn answered(&self, answer: Answer) -> Vec<Vec<u8>> {
        match answer {
            Answer::Silence => vec![],
            Answer::Truncated => {
                vec![self.packet(vec![], |packet| packet.set_flags(PacketFlag::TRUNCATION))]
            }
            Answer::Code(code) => vec![self.packet(vec![], |packet| *packet.rcode_mut() = code)],
            Answer::Records(records) => vec![self.packet(records, |_| ())],
            Answer::Datagrams(datagrams) => datagrams,
        }
    }
}

/// A running server; dropping it stops it.
pub(super) struct Server {
    pub(super) addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    _tasks: [smol::Task<()>; 2],
}

impl Server {
    pub(super) fn start(answers: fn(&Asked) -> Answer) -> Self {
        // TCP and UDP ports are given out separately, so it may take some tries to get the same one.
        let server = (0..100).find_map(|_| Server::bind(([127, 0, 0, 1], 0).into(), answers));
        server.expect("a port that is free for UDP and TCP")
    }

    /// Another server with the same port.
    pub(super) fn sibling(&self, answers: fn(&Asked) -> Answer) -> Self {
        let addr = SocketAddr::from(([127, 0, 0, 2], self.addr.port()));
        Server::bind(addr, answers).expect("a free port")
    }

    /// What it was asked so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }

    fn bind(addr: SocketAddr, answers: fn(&Asked) -> Answer) -> Option<Self> {
        let udp = Async::<UdpSocket>::bind(addr).ok()?;
        let addr = udp.get_ref().local_addr().ok()?;
        let tcp = Async::<TcpListener>::bind(addr).ok()?;
        let asked = Arc::default();
        let tasks = [
            smol::spawn(serve_udp(udp, answers, Arc::clone(&asked))),
            smol::spawn(serve_tcp(tcp, answers, Arc::clone(&asked))),
        ];
        Some(Server { addr, asked, _tasks: tasks })
    }
}

async fn serve_udp(socket: Async<UdpSocket>, answers: fn(&Asked) -> Answer, log: Arc<Mutex<Vec<Asked>>>) {
    let mut buf = [0; 512];
    loop {
        // An error reports that a client went away in the meantime.
        let Ok((length, from)) = socket.recv_from(&mut buf).await else { continue };
        let asked = Asked::read(&buf[..length], from, false);
        log.lock().expect("no panic").push(asked.clone());
        for datagram in asked.answered(answers(&asked)) {
            let _ = socket.send_to(&datagram, from).await; // the client may have gone away
        }
    }
}

async fn serve_tcp(listener: Async<TcpListener>, answers: fn(&Asked) -> Answer, log: Arc<Mutex<Vec<Asked>>>) {
    loop {
        let (stream, from) = listener.accept().await.expect("a connection");
        let _ = serve_connection(stream, from, answers, &log).await; // the client may have gone away
    }
}

async fn serve_connection(
    mut stream: Async<TcpStream>,
    from: SocketAddr,
    answers: fn(&Asked) -> Answer,
    log: &Mutex<Vec<Asked>>,
) -> std::io::Result<()> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut query).await?;
    let asked = Asked::read(&query, from, true);
    log.lock().expect("no panic").push(asked.clone());
    for reply in asked.answered(answers(&asked)) {
        let length = u16::try_from(reply.len()).expect("a short answer");
        stream.write_all(&[&length.to_be_bytes(), &reply[..]].concat()).await?;
    }
    Ok(())
}
