//! Queries with EDNS options: what is answered in the kernel is what CoreDNS says, and what CoreDNS refuses is left to it.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType::A};

use crate::client::{Client, TRIES};
use crate::node::Node;

const NAMES: [&str; 2] = ["web.default.svc.cluster.local.", "nobody.default.svc.cluster.local."];
const COOKIE: u16 = 10;
const PADDING: u16 = 12;

/// A query with an OPT of one option.
fn query(id: u16, name: &str, code: u16, data: &[u8]) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), A));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    message.set_edns(edns);
    let mut octets = message.to_vec().unwrap();
    // The OPT is the last record, and its length the last that it has.
    octets.truncate(octets.len() - 2);
    octets.extend((4 + data.len() as u16).to_be_bytes());
    octets.extend(code.to_be_bytes());
    octets.extend((data.len() as u16).to_be_bytes());
    octets.extend(data);
    octets
}

/// What two servers have to agree on: rcode, how many records of each kind, and the addresses.
fn outcome(client: &Client, message: &[u8]) -> (u8, [u16; 3], Vec<String>) {
    let reply = (0..TRIES).find_map(|_| client.exchange(message)).expect("a reply");
    let count = |at: usize| u16::from_be_bytes([reply[at], reply[at + 1]]);
    let read = Message::from_vec(&reply).map(|m| m.answers).unwrap_or_default();
    let mut data: Vec<String> = read.iter().map(|r| r.data.to_string()).collect();
    data.sort();
    (reply[3] & 0xf, [count(6), count(8), count(10)], data)
}

#[test]
fn options_of_each_code_and_length() {
    let node = Node::shared();
    let _daemon = node.daemon();
    let (ours, theirs) = (node.pod(), node.beside());
    let before = node.answered();
    let (mut id, mut answered) = (0, 0);
    let mut differences = Vec::new();
    for code in 0..=20 {
        for len in 0..=40_u8 {
            for (name, data) in NAMES.iter().zip([(0..len).map(|i| i + 1).collect::<Vec<u8>>(), vec![0; len.into()]]) {
                id += 1;
                let message = query(id, name, code, &data);
                let (our, their) = (outcome(&ours, &message), outcome(&theirs, &message));
                if our != their {
                    differences.push(format!("code {code}, {len} octets: edns {our:?}, coredns {their:?}"));
                }
                let asks_nothing = code == PADDING || code == COOKIE && (len == 8 || len >= 16);
                answered += u64::from(asks_nothing);
            }
        }
    }
    assert!(differences.is_empty(), "{}:\n{}", differences.len(), differences.join("\n"));
    // A machine that is too busy for a heartbeat lets some pass.
    let in_kernel = node.answered() - before;
    assert!(in_kernel <= answered && in_kernel > answered / 2, "{in_kernel} of {answered}");
}
