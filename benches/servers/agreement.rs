//! Checks that all contenders give the same answers, and that eDNS answers in the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;

use hickory_proto::rr::RecordType;

use crate::client::Client;
use crate::contenders::ALL;
use crate::lab::Lab;

/// Outcomes that are answers in the kernel.
const ANSWERS: [&str; 3] = ["answered", "nodata", "nxdomain"];

/// Asks all contenders the first `most` different questions. Returns the number of each kind of answer.
///
/// # Panics
/// If a contender has another rcode or another answer section than CoreDNS, or eDNS let a query pass.
pub fn check(lab: &Lab, questions: &[String], most: usize) -> BTreeMap<String, usize> {
    let mut different = BTreeSet::new();
    let first: Vec<&String> = questions.iter().filter(|q| different.insert(*q)).take(most).collect();
    let clients = ALL.map(|contender| Client::new(lab, contender.client, contender.address));
    let mut outcomes = BTreeMap::new();
    let answered = || ANSWERS.iter().map(|outcome| lab.count(outcome)).sum::<u64>();
    let before = answered();
    for question in &first {
        let (name, rtype) = question.split_once(' ').expect("name and type");
        let rtype = RecordType::from_str(rtype).expect("a type");
        let replies = clients.each_ref().map(|client| client.ask(name, rtype).map(|r| (r.rcode, r.answer)));
        for (contender, reply) in ALL.iter().zip(&replies) {
            assert_eq!(reply, &replies[1], "{question}: {} and {} differ", contender.name, ALL[1].name);
        }
        let (rcode, answer) = replies[1].as_ref().expect("an answer");
        let outcome = match (rcode.as_str(), answer.is_empty()) {
            ("NoError", false) => "found".to_owned(),
            ("NoError", true) => "NODATA".to_owned(),
            _ => rcode.to_uppercase(),
        };
        *outcomes.entry(outcome).or_default() += 1;
    }
    assert_eq!(answered() - before, first.len() as u64, "answers of {} in the kernel", ALL[0].name);
    outcomes
}
