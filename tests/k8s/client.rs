//! A DNS client in a network namespace, with replies in a form that can be compared.

use std::collections::BTreeSet;
use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};

use crate::lab::Lab;

/// The parts of a reply in which two servers have to agree: everything except TTLs, order, and the SOA's serial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub rcode: String,
    pub aa: bool,
    pub answer: BTreeSet<String>,
    pub authority: BTreeSet<String>,
    pub additional: BTreeSet<String>,
}

impl Reply {
    /// With or without TTLs.
    pub fn of(message: &Message, ttls: bool) -> Self {
        let set = |records: &[Record]| records.iter().map(|record| text(record, ttls)).collect();
        Self {
            rcode: format!("{:?}", message.metadata.response_code),
            aa: message.metadata.authoritative,
            answer: set(&message.answers),
            authority: set(&message.authorities),
            additional: set(&message.additionals),
        }
    }
}

/// Whether a reply with this TTL was sent by eDNS: no router decremented it.
const fn is_kernels(ttl: i32) -> bool {
    ttl == 64
}

/// A machine that is too busy loses some replies, and resolvers ask again.
pub const TRIES: usize = 3;

pub struct Client {
    socket: UdpSocket,
    id: AtomicU16,
    /// Whether it accepts replies larger than 512 octets (by an OPT record).
    pub edns: bool,
    /// Whether records have their TTLs.
    pub ttls: bool,
}

impl Client {
    /// In this namespace of the lab.
    pub fn new(lab: &Lab, ns: &str, server: &str) -> Self {
        let socket = lab.run_in(ns, || UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.connect((server, 53)).unwrap();
        setsockopt(&socket, sockopt::Ipv4RecvTtl, &true).unwrap();
        let client = Self { socket, id: AtomicU16::new(1), edns: false, ttls: false };
        client.set_timeout(Duration::from_secs(2));
        client
    }

    /// Sets the time-out of replies.
    pub fn set_timeout(&self, time: Duration) {
        self.socket.set_read_timeout(Some(time)).unwrap();
    }

    /// The rcode, or `none` if no reply arrives in time.
    pub fn rcode(&self, name: &str, rtype: RecordType) -> String {
        self.ask(name, rtype).map_or_else(|| "none".into(), |reply| reply.rcode)
    }

    /// The sorted data of the answer section.
    pub fn data(&self, name: &str, rtype: RecordType) -> Vec<String> {
        let reply = (0..TRIES).find_map(|_| self.ask(name, rtype));
        let records = reply.map(|reply| reply.answer).unwrap_or_default();
        let mut data: Vec<String> = records.iter().filter_map(|r| r.splitn(3, ' ').last().map(str::to_owned)).collect();
        data.sort();
        data
    }

    /// The reply; None if it doesn't arrive in time.
    pub fn ask(&self, name: &str, rtype: RecordType) -> Option<Reply> {
        self.ask_with_sender(name, rtype).map(|(reply, _)| reply)
    }

    /// The reply, and whether no router forwarded it. In a pod this means that eDNS sent it.
    pub fn ask_with_sender(&self, name: &str, rtype: RecordType) -> Option<(Reply, bool)> {
        let id = self.id.fetch_add(1, Ordering::Relaxed);
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        // Labels may have any octets.
        let labels = name.split('.').map(str::as_bytes).filter(|label| !label.is_empty());
        let mut qname = Name::from_labels(labels).unwrap();
        qname.set_fqdn(true);
        message.add_query(Query::query(qname.clone(), rtype));
        if self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(1232);
            message.set_edns(edns);
        }
        self.socket.send(&message.to_vec().unwrap()).unwrap();
        let (reply, ttl) = loop {
            let (octets, ttl) = self.receive()?;
            let reply = Message::from_vec(&octets).unwrap_or_else(|e| panic!("{name} {rtype}: {e}"));
            // A reply to an earlier query, which was too late.
            if reply.metadata.id == id {
                break (reply, ttl);
            }
        };
        // Including the case, which resolvers check.
        assert_eq!(reply.queries[0].name().to_string(), qname.to_string());
        Some((Reply::of(&reply, self.ttls), is_kernels(ttl)))
    }

    /// The octets of the reply to any message, and whether no router forwarded it; None if it doesn't arrive in time.
    pub fn exchange(&self, message: &[u8]) -> Option<(Vec<u8>, bool)> {
        self.socket.send(message).unwrap();
        loop {
            let (octets, ttl) = self.receive()?;
            // A reply to an earlier query, which was too late.
            if octets[..2] == message[..2] {
                return Some((octets, is_kernels(ttl)));
            }
        }
    }

    /// The next message, and the TTL of its packet.
    fn receive(&self) -> Option<(Vec<u8>, i32)> {
        let mut octets = vec![0; 4096];
        let mut space = nix::cmsg_space!(i32);
        let mut parts = [IoSliceMut::new(&mut octets)];
        let got = recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty()).ok()?;
        let ttl =
            got.cmsgs().ok()?.find_map(|c| if let ControlMessageOwned::Ipv4Ttl(ttl) = c { Some(ttl) } else { None })?;
        let len = got.bytes;
        octets.truncate(len);
        Some((octets, ttl))
    }
}

fn text(record: &Record, ttls: bool) -> String {
    let data = match &record.data {
        RData::SOA(soa) => format!("{} {}", soa.mname, soa.rname),
        data => data.to_string(),
    };
    let ttl = if ttls { format!("{} ", record.ttl) } else { String::new() };
    format!("{} {ttl}{} {data}", record.name, record.record_type()).to_lowercase()
}
