//! Queries with EDNS options. Answers in the kernel equal CoreDNS'; queries that CoreDNS refuses pass.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType::A};

use crate::client::{Client, Reply, TRIES};
use crate::node::Node;

const NAMES: [&str; 2] = ["web.default.svc.cluster.local.", "nobody.default.svc.cluster.local."];
const COOKIE: u16 = 10;
const PADDING: u16 = 12;
/// Length of the fixed part of an OPT record: root, type, UDP size, flags, RDLENGTH.
const OPT: usize = 11;

/// A query with an OPT of one option.
fn query(id: u16, name: &str, code: u16, data: &[u8]) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), A));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    message.set_edns(edns);
    let mut octets = message.to_vec().unwrap();
    // The OPT record is the last one and ends with RDLENGTH.
    octets.truncate(octets.len() - 2);
    octets.extend((4 + data.len() as u16).to_be_bytes());
    octets.extend(code.to_be_bytes());
    octets.extend((data.len() as u16).to_be_bytes());
    octets.extend(data);
    octets
}

/// A reply without the parts in which servers may differ: the options, which CoreDNS echoes, and the UDP size.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    flags: [u8; 2],
    reply: Option<Reply>,
    opt_flags: Option<u32>,
}

/// The reply of a server, and whether eDNS sent it.
fn outcome(client: &Client, message: &[u8]) -> (Outcome, bool) {
    let (mut reply, in_kernel) = (0..TRIES).find_map(|_| client.exchange(message)).expect("a reply");
    let has_opt = reply.len() > 12 && reply[10..12] != [0, 0];
    // The options end the message. They are removed because the library rejects some of them.
    let opt = has_opt.then(|| (0..reply.len() - OPT).rfind(|at| is_opt(&reply[*at..]))).flatten();
    if let Some(at) = opt {
        reply.truncate(at + OPT);
        reply[at + OPT - 2..].fill(0);
    }
    let opt_flags = opt.map(|at| u32::from_be_bytes(reply[at + 5..at + 9].try_into().unwrap()));
    let flags = [reply[2], reply[3]];
    (Outcome { flags, reply: Message::from_vec(&reply).ok().map(|m| Reply::of(&m, false)), opt_flags }, in_kernel)
}

/// Whether an OPT record that ends with the message starts here.
fn is_opt(octets: &[u8]) -> bool {
    octets[..3] == [0, 0, 41] && usize::from(u16::from_be_bytes([octets[9], octets[10]])) == octets.len() - OPT
}

#[test]
fn options_of_each_code_and_length_are_answered_like_coredns() {
    let node = Node::shared();
    let _daemon = node.daemon();
    let (via_edns, direct) = (node.pod(), node.direct());
    let (mut id, mut answerable, mut answered, mut refused) = (0, 0, 0, 0);
    let mut differences = Vec::new();
    for code in 0..=20 {
        for len in 0..=40_u8 {
            for (name, data) in NAMES.iter().zip([(0..len).map(|i| i + 1).collect::<Vec<u8>>(), vec![0; len.into()]]) {
                id += 1;
                let message = query(id, name, code, &data);
                let ((edns_reply, in_kernel), (coredns_reply, _)) =
                    (outcome(&via_edns, &message), outcome(&direct, &message));
                if edns_reply != coredns_reply {
                    differences
                        .push(format!("code {code}, {len} octets: edns {edns_reply:?}, coredns {coredns_reply:?}"));
                }
                let asks_nothing = code == PADDING || code == COOKIE && (len == 8 || len >= 16);
                assert!(asks_nothing || !in_kernel, "code {code}, {len} octets: {edns_reply:?}");
                answerable += usize::from(asks_nothing);
                answered += usize::from(in_kernel);
                refused += usize::from(coredns_reply.flags[1] & 0xf == 1);
            }
        }
    }
    assert!(differences.is_empty(), "{}:\n{}", differences.len(), differences.join("\n"));
    println!("{id} queries, {answered} answered in the kernel, {refused} FORMERR at CoreDNS");
    // A machine that is too busy for a heartbeat lets some queries pass.
    assert!(answered > answerable / 2, "{answered} of {answerable}");
    assert!(refused > 0, "CoreDNS refuses no option");
}
