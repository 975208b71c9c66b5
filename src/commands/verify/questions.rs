//! The questions: all names in the maps, and made-up names beside and below them.

use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use hickory_proto::rr::RecordType;

use crate::control::RecordReply;
use crate::zone::node::ANY_TYPE;

/// The type of the question for an answer to all types that a name does not list ([`ANY_TYPE`]). No name in the maps has MX records.
const OTHER_TYPE: RecordType = RecordType::MX;
const WILDCARD: &str = "*.";

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Question {
    /// Name with the final dot.
    pub name: String,
    pub qtype: u16,
}

/// The questions, sorted by name; with `sample`, for that many names, chosen at random.
pub(super) fn questions(records: &[RecordReply], sample: Option<usize>) -> Vec<Question> {
    let names: HashSet<&str> = records.iter().map(|r| r.name.as_str()).collect();
    let chosen = choose(names, sample);
    // A random label: it does not exist, and no cache knows it.
    let label = format!("edns-verify-{:016x}", RandomState::new().hash_one(()));
    let mut questions = BTreeSet::new();
    for record in records.iter().filter(|r| r.answer.is_some() && chosen.contains(r.name.as_str())) {
        let name = match record.name.strip_prefix(WILDCARD) {
            Some(below) => format!("{label}.{below}"),
            None => record.name.clone(),
        };
        let qtype = if record.qtype == ANY_TYPE { OTHER_TYPE.into() } else { record.qtype };
        questions.insert(Question { name, qtype });
    }
    for name in chosen.iter().filter(|n| !n.starts_with(WILDCARD)) {
        let beside = name.split_once('.').map(|(_, parent)| parent).filter(|p| !p.is_empty());
        for above in beside.into_iter().chain([*name]) {
            questions.insert(Question { name: format!("{label}.{above}"), qtype: RecordType::A.into() });
        }
    }
    questions.into_iter().collect()
}

fn choose(names: HashSet<&str>, sample: Option<usize>) -> HashSet<&str> {
    let Some(sample) = sample.filter(|n| *n < names.len()) else { return names };
    let random = RandomState::new();
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_by_cached_key(|name| random.hash_one(name));
    names.into_iter().take(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, qtype: u16, answer: bool) -> RecordReply {
        RecordReply { name: name.into(), qtype, answer: answer.then(Vec::new), counts: [0; 3] }
    }

    #[test]
    fn asks_for_names_in_the_maps_and_beside_and_below_them() {
        let records = [
            record("a.example.", 1, true),
            record("a.example.", 28, false),
            record("b.example.", ANY_TYPE, true),
            record("*.w.example.", 1, true),
        ];
        let questions = questions(&records, None);
        let has = |name: &str, qtype: u16| questions.contains(&Question { name: name.into(), qtype });
        assert!(has("a.example.", 1) && !has("a.example.", 28), "{questions:?}");
        assert!(has("b.example.", OTHER_TYPE.into()));
        let made: Vec<&str> = questions
            .iter()
            .filter(|q| q.name.starts_with("edns-verify-"))
            .map(|q| q.name.split_once('.').unwrap().1)
            .collect();
        assert_eq!(
            made.iter().copied().collect::<HashSet<_>>(),
            ["w.example.", "example.", "a.example.", "b.example."].into()
        );
    }

    #[test]
    fn a_sample_has_that_many_names() {
        let records: Vec<_> = (0..50).map(|n| record(&format!("n{n}."), 1, true)).collect();
        let held = |questions: &[Question]| questions.iter().filter(|q| q.name.starts_with('n')).count();
        assert_eq!(held(&questions(&records, Some(7))), 7);
        assert_eq!(held(&questions(&records, Some(70))), 50);
    }
}
