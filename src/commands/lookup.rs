//! `edns lookup`: the answer of the BPF program, in the form of dig.

use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr as _;

use hickory_proto::op::Message;
use hickory_proto::rr::{Record, RecordType};

use super::{CommandError, CommandResult, stdout};
use crate::control::client::ask_one;
use crate::control::{LookupReply, Request};
use crate::datapath::Outcome;
use crate::zone::name::Name;

/// Has the daemon run the BPF program on a query and prints the answer. False if the query passes.
///
/// # Errors
/// For a bad name or type, and if no daemon runs.
pub fn run(config: &Path, name: &str, qtype: &str) -> CommandResult {
    Name::parse(name).map_err(|e| CommandError::Usage(format!("{name:?} {e}")))?;
    let rtype = parse_type(qtype)?;
    let reply: LookupReply = ask_one(config, &Request::Lookup { name: name.into(), qtype: rtype.into() })?;
    let mut out = stdout();
    match reply.message {
        None => {
            writeln!(
                out,
                ";; {name} {rtype}: passes to the DNS server ({}: {})",
                reply.outcome,
                Outcome::from_name(&reply.outcome).map_or("", |outcome| outcome.meaning)
            )?;
            out.flush()?;
            Ok(false)
        }
        Some(octets) => {
            let message = Message::from_vec(&octets)
                .map_err(|e| io::Error::other(format!("can't decode the answer: {e}: {octets:02x?}")))?;
            print(&mut out, &message, &reply.outcome, octets.len())?;
            out.flush()?;
            Ok(true)
        }
    }
}

/// Parses a record type: a name, or TYPE and a number (RFC 3597 §5).
fn parse_type(text: &str) -> Result<RecordType, CommandError> {
    let upper = text.to_ascii_uppercase();
    let number = upper.strip_prefix("TYPE").and_then(|n| n.parse::<u16>().ok()).map(RecordType::from);
    number.or_else(|| RecordType::from_str(&upper).ok()).ok_or_else(|| {
        CommandError::Usage(format!("{text:?} is not a record type, such as A, AAAA, SRV, PTR, CNAME or TYPE65"))
    })
}

fn print(out: &mut impl Write, message: &Message, outcome: &str, len: usize) -> io::Result<()> {
    let meta = &message.metadata;
    let flags: Vec<&str> = [
        ("qr", true),
        ("aa", meta.authoritative),
        ("tc", meta.truncation),
        ("rd", meta.recursion_desired),
        ("ra", meta.recursion_available),
        ("ad", meta.authentic_data),
        ("cd", meta.checking_disabled),
    ]
    .iter()
    .filter_map(|(name, set)| set.then_some(*name))
    .collect();
    let status = format!("{:?}", meta.response_code).to_ascii_uppercase();
    writeln!(out, ";; ->>HEADER<<- opcode: QUERY, status: {status}, id: {}", meta.id)?;
    writeln!(
        out,
        ";; flags: {}; QUERY: {}, ANSWER: {}, AUTHORITY: {}, ADDITIONAL: {}",
        flags.join(" "),
        message.queries.len(),
        message.answers.len(),
        message.authorities.len(),
        message.additionals.len()
    )?;
    writeln!(out, "\n;; QUESTION SECTION:")?;
    for query in &message.queries {
        writeln!(out, ";{}\t\t{}\t{}", query.name(), query.query_class(), query.query_type())?;
    }
    section(out, "ANSWER", &message.answers)?;
    section(out, "AUTHORITY", &message.authorities)?;
    section(out, "ADDITIONAL", &message.additionals)?;
    writeln!(out, "\n;; SERVER: the kernel ({outcome})\n;; MSG SIZE  rcvd: {len}")
}

fn section(out: &mut impl Write, title: &str, records: &[Record]) -> io::Result<()> {
    if !records.is_empty() {
        writeln!(out, "\n;; {title} SECTION:")?;
    }
    records
        .iter()
        .try_for_each(|r| writeln!(out, "{}\t{}\t{}\t{}\t{}", r.name, r.ttl, r.dns_class, r.record_type(), r.data))
}
