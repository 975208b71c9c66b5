//! What differs between two replies to a question: rcode, AA and the records of each section, whatever their order and TTL.

use std::collections::BTreeSet;

use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// A line for each difference.
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
    sets(&mut lines, "answer", records(&ours.answers), records(&theirs.answers));
    if !ours.authorities.iter().any(is_stand_in) {
        sets(&mut lines, "authority", authority(ours), authority(theirs));
    }
    sets(&mut lines, "additional", additional(ours), additional(theirs));
    lines
}

fn sets(lines: &mut Vec<String>, section: &str, ours: BTreeSet<String>, theirs: BTreeSet<String>) {
    lines.extend(ours.difference(&theirs).map(|r| format!("{section}: only in the kernel: {r}")));
    lines.extend(theirs.difference(&ours).map(|r| format!("{section}: only at the server: {r}")));
}

/// Where a static name has no record of a type, a SOA of its own stands for that of a zone that only the server knows.
fn is_stand_in(record: &Record) -> bool {
    matches!(&record.data, RData::SOA(soa) if record.name == soa.mname)
}

/// The NS records that a server adds out of courtesy (RFC 1034 §4.3.2) are no part of the answer.
fn authority(message: &Message) -> BTreeSet<String> {
    records(message.authorities.iter().filter(|r| r.record_type() != RecordType::NS))
}

/// The same goes for addresses, but those of what a SRV record names.
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

/// Without TTL, and without what a SOA says of the time at which its zone was written.
fn text(record: &Record) -> String {
    let data = match &record.data {
        RData::SOA(soa) => {
            format!("{} {} _ {} {} {} {}", soa.mname, soa.rname, soa.refresh, soa.retry, soa.expire, soa.minimum)
        }
        data => data.to_string(),
    };
    let text = format!("{} {} {data}", record.name, record.record_type()).to_lowercase();
    // The server may be anybody's: nothing of it drives the terminal.
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
