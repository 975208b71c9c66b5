//! What the maps hold, read back out of them.

use super::encode::Stored;
use super::table::Table;
use crate::zone::name::Name;
use crate::zone::node::ANY_TYPE;

/// An answer in the maps.
#[derive(Debug, Clone)]
pub struct Record {
    /// The owner.
    pub name: Name,
    /// Whether this is what holds for the names below, in place of the name itself.
    pub below: bool,
    /// The type; [`ANY_TYPE`] for all that the name does not list.
    pub qtype: u16,
    /// Records in answer, authority and additional section, with their octets behind the question; None: the question passes.
    pub answer: Option<([u16; 3], Vec<u8>)>,
}

impl Table {
    /// What the index' slots from `slot` on lead to, `slots` of them; None behind the last one.
    #[must_use]
    pub fn records(&self, slot: usize, slots: usize) -> Option<Vec<Record>> {
        let mut records = Vec::new();
        for stored in self.stored(slot, slots)? {
            let Some(name) = stored.name() else { continue };
            let refs = stored.refs();
            if stored.types().next().is_none() && refs.fallback == 0 {
                records.push(Record { name: name.clone(), below: false, qtype: ANY_TYPE, answer: None });
            }
            self.push(&mut records, &name, false, stored);
            if let Some(child) = self.stored_at(refs.child) {
                self.push(&mut records, &name, true, child);
            }
        }
        Some(records)
    }

    fn push(&self, records: &mut Vec<Record>, name: &Name, below: bool, stored: Stored<'_>) {
        let own: Vec<u16> = stored.types().map(|(t, _)| t).collect();
        let fallback = self.stored_at(stored.refs().fallback);
        // What the node lists itself hides what its fallback lists.
        let inherited = fallback.iter().flat_map(Stored::types).filter(|(t, _)| !own.contains(t));
        for (qtype, answer) in stored.types().chain(inherited) {
            let answer = answer.map(|a| (a.counts(), a.bytes().to_vec()));
            records.push(Record { name: name.clone(), below, qtype, answer });
        }
    }
}
