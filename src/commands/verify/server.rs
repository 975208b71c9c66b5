//! A client of the DNS server over TCP (RFC 7766).

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::str::FromStr as _;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};

use super::questions::Question;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum time of one read or write.
const IO_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to a DNS server. If a question fails, it reconnects once, because servers close idle connections.
pub(super) struct Server {
    addr: SocketAddr,
    stream: TcpStream,
    id: u16,
}

impl Server {
    pub(super) fn connect(addr: SocketAddr) -> io::Result<Self> {
        Ok(Self { addr, stream: open(addr)?, id: 0 })
    }

    pub(super) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn ask(&mut self, question: &Question) -> io::Result<Message> {
        let first = self.exchange(question);
        if first.is_ok() {
            return first;
        }
        self.stream = open(self.addr)?;
        self.exchange(question)
    }

    fn exchange(&mut self, question: &Question) -> io::Result<Message> {
        self.id = self.id.wrapping_add(1);
        let mut query = Message::new(self.id, MessageType::Query, OpCode::Query);
        query.metadata.recursion_desired = true;
        let name = Name::from_str(&question.name).map_err(io::Error::other)?;
        query.add_query(Query::query(name, RecordType::from(question.qtype)));
        let query = query.to_vec().map_err(io::Error::other)?;
        // Length and message in one write, so that the message does not wait for an acknowledgement of the length.
        let mut framed = (query.len() as u16).to_be_bytes().to_vec();
        framed.extend(query);
        self.stream.write_all(&framed)?;
        let mut len = [0; 2];
        self.stream.read_exact(&mut len)?;
        let mut reply = vec![0; u16::from_be_bytes(len).into()];
        self.stream.read_exact(&mut reply)?;
        let reply = Message::from_vec(&reply).map_err(io::Error::other)?;
        if reply.metadata.id != self.id {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a reply to another question"));
        }
        Ok(reply)
    }
}

fn open(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT)?;
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
