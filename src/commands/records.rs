//! `edns records`: the names and answers in the maps.

use std::io::Write;
use std::path::Path;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, Record, RecordType};
use serde::Serialize;

use super::{CommandResult, stdout};
use crate::control::client::ask;
use crate::control::{RecordReply, Request};
use crate::zone::node::ANY_TYPE;

/// An answer as `--json` prints it.
#[derive(Serialize)]
struct Shown {
    name: String,
    /// `ANY` means all types that the name does not list.
    #[serde(rename = "type")]
    qtype: String,
    /// Whether queries of this type pass to the DNS server.
    pass: bool,
    answer: Vec<String>,
    authority: Vec<String>,
    additional: Vec<String>,
}

/// Prints every answer in the maps, sorted by name.
///
/// # Errors
/// If no daemon runs.
pub fn run(config: &Path, json: bool) -> CommandResult {
    let mut records = Vec::new();
    ask(config, &Request::Records, |r: RecordReply| records.push(r))?;
    records.sort();
    let mut out = stdout();
    if json {
        let shown: Vec<Shown> = records.iter().map(show).collect();
        serde_json::to_writer_pretty(&mut out, &shown).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        for shown in records.iter().map(show) {
            let (name, qtype) = (&shown.name, &shown.qtype);
            if shown.pass {
                writeln!(out, "{name}\t{qtype}\tpasses to the DNS server")?;
            }
            for record in &shown.answer {
                writeln!(out, "{name}\t{qtype}\t{record}")?;
            }
            for record in &shown.authority {
                writeln!(out, "{name}\t{qtype}\tno records; {record}")?;
            }
        }
    }
    out.flush()?;
    Ok(true)
}

fn show(reply: &RecordReply) -> Shown {
    let rtype = RecordType::from(reply.qtype);
    let message = reply.answer.as_ref().and_then(|octets| decode(reply, rtype, octets));
    let lines =
        |records: &[Record]| records.iter().map(|r| format!("{} {} {}", r.ttl, r.record_type(), r.data)).collect();
    Shown {
        name: reply.name.clone(),
        qtype: if reply.qtype == ANY_TYPE { "ANY".into() } else { rtype.to_string() },
        pass: message.is_none(),
        answer: message.as_ref().map_or_else(Vec::new, |m| lines(&m.answers)),
        authority: message.as_ref().map_or_else(Vec::new, |m| lines(&m.authorities)),
        additional: message.as_ref().map_or_else(Vec::new, |m| lines(&m.additionals)),
    }
}

/// Decodes an answer: puts it behind its question, as the BPF program does.
fn decode(reply: &RecordReply, rtype: RecordType, octets: &[u8]) -> Option<Message> {
    const COUNTS_AT: usize = 6; // ANCOUNT, NSCOUNT, ARCOUNT (RFC 1035 §4.1.1)
    let mut question = Message::new(0, MessageType::Response, OpCode::Query);
    question.add_query(Query::query(Name::from_ascii(&reply.name).ok()?, rtype));
    let mut wire = question.to_vec().ok()?;
    for (i, count) in reply.counts.iter().enumerate() {
        wire[COUNTS_AT + 2 * i..][..2].copy_from_slice(&count.to_be_bytes());
    }
    wire.extend_from_slice(octets);
    Message::from_vec(&wire).ok()
}
