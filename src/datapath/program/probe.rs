//! Runs queries through the program in the kernel, without a network.

use std::io;
use std::str::FromStr as _;

use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};

use super::load::Datapath;
use super::outcome::Outcome;
use super::variant::Program;
use crate::datapath::abi::ANSWER_MAX;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;
const FRAME_MAX: usize = 2048;

/// A query message in wire format whose OPT record allows the largest answer ([`ANSWER_MAX`]).
///
/// # Errors
/// If `name` is no domain name.
pub fn query(name: &str, qtype: u16) -> Result<Vec<u8>, ProtoError> {
    let mut name = Name::from_str(name)?;
    name.set_fqdn(true);
    let mut message = Message::new(rand_id(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, RecordType::from(qtype)));
    let mut edns = Edns::new();
    edns.set_max_payload(ANSWER_MAX as u16);
    message.set_edns(edns);
    message.to_vec()
}

/// A random message ID, by which the program rotates records.
fn rand_id() -> u16 {
    crate::datapath::table::random() as u16
}

/// Runs the program on a query in wire format. Returns the outcome's name, and the reply in wire format if it is an answer.
///
/// # Errors
/// The error of the system call, or why the program can't be loaded.
pub fn run(datapath: &Datapath, query: &[u8]) -> io::Result<(&'static str, Option<Vec<u8>>)> {
    let program = datapath.test_run(Program::Probe).map_err(io::Error::other)?;
    let mut out = vec![0; FRAME_MAX];
    let (outcome, len) = program.run(&frame(query), &mut out)?;
    let outcome = Outcome::from_number(outcome).ok_or(io::ErrorKind::InvalidData)?;
    let reply = outcome.is_answer.then(|| out[ETHERNET + IPV4 + UDP..len].to_vec());
    Ok((outcome.name, reply))
}

/// The query in an Ethernet frame between addresses for documentation (RFC 5737). The program does not verify the IP header's
/// checksum, and a UDP checksum of 0 means none (RFC 768).
fn frame(query: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ETHERNET];
    frame[12] = 0x08; // IPv4
    let udp_len = (UDP + query.len()) as u16;
    frame.extend([0x45, 0]);
    frame.extend((IPV4 as u16 + udp_len).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    frame.extend(4096_u16.to_be_bytes());
    frame.extend(53_u16.to_be_bytes());
    frame.extend(udp_len.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(query);
    frame
}
