//! Sockets of clients of a [`RefusingServer`]. Every query gets a reply, which shows whether eDNS or the server sent it.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::common::decode::{self, Asked};
use crate::common::packet::{COOKIE, Opt, Query, hex};
use crate::lab::{FLAG_QR, Lab, REFUSED, RefusingServer};

/// An emulated machine may be slow.
const SOON: Duration = Duration::from_secs(30);

/// A socket in a namespace.
fn bind(lab: &Lab, ns: &str, local: &str) -> UdpSocket {
    lab.run_in(ns, || UdpSocket::bind(local)).unwrap_or_else(|e| panic!("{local}: {e}"))
}

fn with_port(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// The sender of a reply.
#[derive(Debug)]
pub enum Reply {
    /// eDNS: a correct message. The sorted data of the records in its answer section, and the number of records in its
    /// authority section.
    Edns(Vec<Vec<u8>>, usize),
    /// The server, which received the query unchanged.
    Server,
}

pub struct Client(UdpSocket);

impl Client {
    pub fn new(lab: &Lab, ns: &str, server: &str) -> Self {
        let any = if server.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = bind(lab, ns, any);
        socket.connect(with_port(server, 53)).unwrap_or_else(|e| panic!("{server}: {e}"));
        socket.set_read_timeout(Some(SOON)).unwrap();
        Self(socket)
    }

    /// Whether no reply arrives within a second.
    pub fn is_silent(&self, query: &Query) -> bool {
        self.0.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let is_silent = self.ask(query).is_err();
        self.0.set_read_timeout(Some(SOON)).unwrap();
        is_silent
    }

    /// Sends a query and waits for one reply.
    pub fn ask(&self, query: &Query) -> Result<Reply, String> {
        let sent = query.octets();
        self.0.send(&sent).map_err(|e| e.to_string())?;
        let got = self.receive().map_err(|e| format!("no reply: {e}"))?;
        read(&sent, &got)
    }

    /// Like [`Client::ask`], if the server's reply may be lost: a query that reached the server counts as its reply. No other
    /// client may ask meanwhile.
    pub fn ask_one_way(&self, query: &Query, server: &RefusingServer) -> Result<Reply, String> {
        let (sent, before, deadline) = (query.octets(), server.asked(), Instant::now() + SOON);
        self.0.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        self.0.send(&sent).map_err(|e| e.to_string())?;
        loop {
            match self.receive() {
                Ok(got) => return read(&sent, &got),
                Err(_) if server.asked() > before => return Ok(Reply::Server),
                Err(e) if Instant::now() > deadline => return Err(format!("neither answered nor passed: {e}")),
                Err(_) => {}
            }
        }
    }

    fn receive(&self) -> std::io::Result<Vec<u8>> {
        let mut got = vec![0; 65_536];
        let len = self.0.recv(&mut got)?;
        got.truncate(len);
        Ok(got)
    }
}

/// Decides which of the two sent a reply.
fn read(sent: &[u8], got: &[u8]) -> Result<Reply, String> {
    let mut refused = sent.to_vec();
    refused[2] |= FLAG_QR;
    refused[3] |= REFUSED;
    if got == refused {
        return Ok(Reply::Server);
    }
    let read = Asked::message(sent).and_then(|asked| decode::message(&asked, got));
    let reply = read.map_err(|e| format!("{e}\n{}", hex(got)))?;
    let [answers, authority, _] = reply.sections;
    let mut data: Vec<_> = answers.into_iter().map(|r| r.rdata).collect();
    data.sort();
    Ok(Reply::Edns(data, authority.len()))
}

/// A query without EDNS, with EDNS, and with everything that a resolver may add.
pub fn forms(name: &str, qtype: u16) -> [Query; 3] {
    let plain = Query::new(name, qtype);
    let opt = Opt { flags: 0x8000, options: COOKIE.into(), ..Opt::new(4096) };
    [plain.clone(), plain.clone().edns(&Opt::new(1232)), plain.edns(&opt)]
}
