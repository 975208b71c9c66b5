//! Compares two replies to a question: rcode, AA and the records of each section, without their order and TTL.

use std::collections::BTreeSet;

use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// Describes each difference in one line.
pub(super) fn differences(ours: &Message, theirs: &Message) -> Vec<String> {
    let mut lines = Vec::new();
    let (rcode, their_rcode) = (ours.metadata.response_code, theirs.metadata.response_code);
    if rcode != their_rcode {
        lines.push(format!("rcode: {rcode:?} in the kernel, {their_rcode:?} at the server"));
    }
    if ours.metadata.authoritative != theirs.metadata.authoritative {
        let set = |is: bool| if is { "set" } else { "clear" };
        lines.push(format!(
            "AA: {} in the kernel, {} at the server",
            set(ours.metadata.authoritative),
            set(theirs.metadata.authoritative)
        ));
    }
    compare_sets(&mut lines, "answer", records(&ours.answers), records(&theirs.answers));
    if !ours.authorities.iter().any(is_static_soa) {
        compare_sets(&mut lines, "authority", authority(ours), authority(theirs));
    }
    compare_sets(&mut lines, "additional", additional(ours), additional(theirs));
    lines
}

fn compare_sets(lines: &mut Vec<String>, section: &str, ours: BTreeSet<String>, theirs: BTreeSet<String>) {
    lines.extend(ours.difference(&theirs).map(|r| format!("{section}: only in the kernel: {r}")));
    lines.extend(theirs.difference(&ours).map(|r| format!("{section}: only at the server: {r}")));
}

/// Whether this is the SOA that eDNS synthesizes for NODATA of a static name, whose owner is that name. It is not compared: the server
/// sends the SOA of the real zone.
fn is_static_soa(record: &Record) -> bool {
    matches!(&record.data, RData::SOA(soa) if record.name == soa.mname)
}

/// The authority section without NS records, which a server may add (RFC 1034 §4.3.2).
fn authority(message: &Message) -> BTreeSet<String> {
    records(message.authorities.iter().filter(|r| r.record_type() != RecordType::NS))
}

/// The additional section, only addresses of the targets of SRV records; a server may add others.
fn additional(message: &Message) -> BTreeSet<String> {
    let targets: Vec<&Name> = message
        .answers
        .iter()
        .filter_map(|r| match &r.data {
            RData::SRV(srv) => Some(&srv.target),
            _ => None,
        })
        .collect();
    records(message.additionals.iter().filter(|r| targets.contains(&&r.name)))
}

fn records<'a>(records: impl IntoIterator<Item = &'a Record>) -> BTreeSet<String> {
    records.into_iter().map(text).collect()
}

/// A record as text, without its TTL and without the serial of a SOA.
fn text(record: &Record) -> String {
    let data = match &record.data {
        RData::SOA(soa) => {
            format!("{} {} _ {} {} {} {}", soa.mname, soa.rname, soa.refresh, soa.retry, soa.expire, soa.minimum)
        }
        data => data.to_string(),
    };
    let text = format!("{} {} {data}", record.name, record.record_type()).to_lowercase();
    // The server is not trusted: its control characters must not reach the terminal.
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
