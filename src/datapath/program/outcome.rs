//! Outcomes of queries: one table for counters, `edns stats`, `edns trace` and metrics. docs/commands.md lists the same.

use crate::datapath::skel::types::edns_outcome;

/// The outcome of a query (`enum edns_outcome`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The name, as in `edns_queries_total`.
    pub name: &'static str,
    /// The meaning, short enough for a line of `edns stats`.
    pub meaning: &'static str,
    /// Whether the program replied. If not, the query passed to the DNS server.
    pub is_answer: bool,
}

const COUNT: usize = edns_outcome::EDNS_OUTCOME_COUNT.0 as usize;

/// All outcomes, in the order of `enum edns_outcome`.
pub static OUTCOMES: [Outcome; COUNT] = {
    let mut outcomes = [Outcome { name: "", meaning: "", is_answer: false }; COUNT];
    let all = [
        (edns_outcome::EDNS_ANSWERED, Outcome { name: "answered", meaning: "with records", is_answer: true }),
        (edns_outcome::EDNS_NODATA, Outcome { name: "nodata", meaning: "no record of this type", is_answer: true }),
        (edns_outcome::EDNS_NXDOMAIN, Outcome { name: "nxdomain", meaning: "no such name", is_answer: true }),
        (
            edns_outcome::EDNS_PASS_NOT_FOUND,
            Outcome { name: "pass_not_found", meaning: "name is not known here", is_answer: false },
        ),
        (
            edns_outcome::EDNS_PASS_NAME,
            Outcome { name: "pass_name", meaning: "name is left to the server", is_answer: false },
        ),
        (
            edns_outcome::EDNS_PASS_QTYPE,
            Outcome { name: "pass_qtype", meaning: "type is left to the server", is_answer: false },
        ),
        (
            edns_outcome::EDNS_PASS_MALFORMED,
            Outcome { name: "pass_malformed", meaning: "not one plain question", is_answer: false },
        ),
        (
            edns_outcome::EDNS_PASS_FRAGMENT,
            Outcome { name: "pass_fragment", meaning: "IP fragment or GSO", is_answer: false },
        ),
        (
            edns_outcome::EDNS_PASS_IP_OPTIONS,
            Outcome { name: "pass_ip_options", meaning: "IPv4 header with options", is_answer: false },
        ),
        (
            edns_outcome::EDNS_PASS_ADDRESS,
            Outcome { name: "pass_address", meaning: "no reply may go there", is_answer: false },
        ),
        (
            edns_outcome::EDNS_PASS_EDNS,
            Outcome { name: "pass_edns", meaning: "not plain EDNS version 0", is_answer: false },
        ),
        (
            edns_outcome::EDNS_PASS_TOO_LARGE,
            Outcome { name: "pass_too_large", meaning: "query or reply is too large", is_answer: false },
        ),
        (
            edns_outcome::EDNS_PASS_SERVER,
            Outcome { name: "pass_server", meaning: "server not in DnsServers", is_answer: false },
        ),
        (edns_outcome::EDNS_PASS_IPVS, Outcome { name: "pass_ipvs", meaning: "IPVS forwards it", is_answer: false }),
        (
            edns_outcome::EDNS_PASS_NOT_SYNCED,
            Outcome { name: "pass_not_synced", meaning: "initial sync not done", is_answer: false },
        ),
        (
            edns_outcome::EDNS_PASS_STALE,
            Outcome { name: "pass_stale", meaning: "view stale, or maps behind", is_answer: false },
        ),
        (
            edns_outcome::EDNS_PASS_INCOMPLETE,
            Outcome { name: "pass_incomplete", meaning: "suspended: no kernel memory", is_answer: false },
        ),
        (edns_outcome::EDNS_PASS_PAUSED, Outcome { name: "pass_paused", meaning: "edns pause", is_answer: false }),
        (
            edns_outcome::EDNS_PASS_DAEMON,
            Outcome { name: "pass_daemon", meaning: "exited, or hung for 2.5 s", is_answer: false },
        ),
        (
            edns_outcome::EDNS_PASS_ERROR,
            Outcome { name: "pass_error", meaning: "can't build the reply", is_answer: false },
        ),
    ];
    // An outcome that is missing above fails to compile: the index is out of bounds, or the assertion fails.
    let mut i = 0;
    while i < all.len() {
        outcomes[all[i].0.0 as usize] = all[i].1;
        i += 1;
    }
    let mut i = 0;
    while i < outcomes.len() {
        assert!(!outcomes[i].name.is_empty());
        i += 1;
    }
    outcomes
};

impl Outcome {
    /// The outcome with this number; None for a packet that is no query to port 53.
    #[must_use]
    pub fn from_number(number: u32) -> Option<&'static Self> {
        OUTCOMES.get(number as usize)
    }

    /// The outcome with this name; None for one of a newer daemon.
    #[must_use]
    pub fn from_name(name: &str) -> Option<&'static Self> {
        OUTCOMES.iter().find(|outcome| outcome.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::BEAT_MAX;

    #[test]
    fn every_outcome_has_a_meaning_and_a_line_of_stats_fits_a_terminal() {
        for Outcome { name, meaning, is_answer } in OUTCOMES {
            assert!(!meaning.is_empty(), "{name}");
            assert!(name.len() < 16 && 16 + 13 + 8 + 12 + 2 + meaning.len() <= 80, "{name}: {meaning}");
            assert_eq!(is_answer, !name.starts_with("pass_"), "{name}");
        }
    }

    #[test]
    fn the_meaning_of_pass_daemon_has_the_true_time() {
        let meaning = Outcome::from_name("pass_daemon").expect("a listed outcome").meaning;
        assert!(meaning.ends_with(&format!("for {} s", BEAT_MAX.as_secs_f64())), "{meaning}");
    }

    #[test]
    fn docs_list_each_outcome() {
        let page = include_str!("../../../docs/commands.md");
        for outcome in OUTCOMES {
            let is_listed = |line: &str| line.starts_with("| ") && line.contains(&format!("`{}`", outcome.name));
            assert!(page.lines().any(is_listed), "docs/commands.md: {}", outcome.name);
        }
    }
}
