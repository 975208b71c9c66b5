//! Waits until both servers have seen everything that was written before.

use std::collections::BTreeSet;

use hickory_proto::rr::RecordType::{A, CNAME};

use crate::client::Client;
use crate::lab::within;
use crate::marks::{ALIAS, Marks, NAMESPACE, SLICE, Shown};
use crate::static_names::StaticNames;
use crate::writer::{Outcome, Writer};

/// Seconds until a change is visible: twice the longest wait before a list, with reserve for a busy machine.
const PATIENCE: u64 = 120;

/// The marks, and who has to show them.
#[derive(Default)]
pub struct Markers(Marks);

impl Markers {
    /// Writes a mark of each kind. Returns when both servers show them and eDNS shows the static names.
    pub fn pass(&mut self, writer: &Writer, static_names: &StaticNames, via_edns: &Client, direct: &Client) {
        let Shown { target, address: [a, b, c, d], has_namespace } = self.0.write(writer);
        let number = self.0.number();
        let address = format!("{SLICE}. 30 a {a}.{b}.{c}.{d}");
        let namespace = if has_namespace { "NoError" } else { "NXDomain" };
        for (client, is_ours) in [(direct, false), (via_edns, true)] {
            within(PATIENCE, &format!("mark {number}, eDNS: {is_ours}"), || {
                shows_alias(client, is_ours, &target)?;
                shows(client, is_ours, SLICE, |rcode, answer| rcode == "NoError" && answer.contains(&address))?;
                shows(client, is_ours, NAMESPACE, |rcode, _| rcode == namespace)
            });
        }
        let (name, address) = static_names.marker();
        within(PATIENCE, "the static marker", || {
            shows(via_edns, true, name, |rcode, answer| rcode == "NoError" && answer.contains(&address))
        });
        let target = self.0.write_alias(writer, "n");
        within(PATIENCE, &format!("the alias after mark {number}"), || shows_alias(via_edns, true, &target));
    }
}

fn shows_alias(client: &Client, is_ours: bool, target: &str) -> Outcome {
    let alias = format!("{ALIAS}. 30 cname {target}.");
    shows(client, is_ours, ALIAS, |rcode, answer| rcode == "NoError" && answer.contains(&alias))
}

fn shows(client: &Client, is_ours: bool, name: &str, is_it: impl Fn(&str, &BTreeSet<String>) -> bool) -> Outcome {
    let rtype = if name == ALIAS { CNAME } else { A };
    match client.ask_with_sender(name, rtype) {
        Some((reply, in_kernel)) if (in_kernel || !is_ours) && is_it(&reply.rcode, &reply.answer) => Ok(()),
        other => Err(format!("{name} {rtype}: {other:?}")),
    }
}
