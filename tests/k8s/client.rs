//! A DNS client in a network namespace, and replies in a form that can be compared.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::UdpSocket;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use nix::sched::{CloneFlags, setns};

use crate::lab::Lab;

/// What two servers have to agree on: all but TTLs, the order, and the SOA's serial.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    pub rcode: String,
    pub aa: bool,
    pub answer: BTreeSet<String>,
    pub authority: BTreeSet<String>,
    pub additional: BTreeSet<String>,
}

pub struct Client(UdpSocket);

impl Client {
    /// In this namespace of the lab's.
    pub fn new(lab: &Lab, ns: &str, server: &str) -> Self {
        let netns = File::open(format!("/run/netns/{}", lab.ns(ns))).unwrap();
        let socket = std::thread::scope(|scope| {
            let open = || {
                setns(&netns, CloneFlags::CLONE_NEWNET).unwrap();
                UdpSocket::bind("0.0.0.0:0").unwrap()
            };
            scope.spawn(open).join().unwrap()
        });
        socket.connect((server, 53)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        Self(socket)
    }

    /// None where there is no reply in time.
    pub fn ask(&self, name: &str, rtype: RecordType) -> Option<Reply> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        let mut qname = Name::from_ascii(name).unwrap();
        qname.set_fqdn(true);
        message.add_query(Query::query(qname, rtype));
        self.0.send(&message.to_vec().unwrap()).unwrap();
        let mut buffer = [0; 4096];
        let len = self.0.recv(&mut buffer).ok()?;
        let reply = Message::from_vec(&buffer[..len]).unwrap_or_else(|e| panic!("{name} {rtype}: {e}"));
        let set = |records: &[Record]| records.iter().map(text).collect();
        Some(Reply {
            rcode: format!("{:?}", reply.metadata.response_code),
            aa: reply.metadata.authoritative,
            answer: set(&reply.answers),
            authority: set(&reply.authorities),
            additional: set(&reply.additionals),
        })
    }
}

fn text(record: &Record) -> String {
    let data = match &record.data {
        RData::SOA(soa) => format!("{} {}", soa.mname, soa.rname),
        data => data.to_string(),
    };
    format!("{} {} {data}", record.name, record.record_type()).to_lowercase()
}
