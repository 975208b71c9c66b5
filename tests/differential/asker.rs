//! Queries to both servers at rest, and to eDNS alone during changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hickory_proto::rr::RecordType;

use crate::client::{Client, Reply, TRIES};
use crate::cluster::DNS;
use crate::node::Node;

/// Time-outs of a reply: the usual one, and the one on a machine that is too busy.
const QUICK: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(2);
/// The most queries that count during a change. After the first [`FAST`] there is a pause between queries, because some
/// changes take long.
const MOST: usize = 2000;
const FAST: usize = 300;
const PAUSE: Duration = Duration::from_millis(20);

pub type Question = (String, RecordType);

/// What eDNS has to do with a query.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Answer like this, or pass it.
    Reply(Reply),
    Pass,
    /// Pass it. CoreDNS doesn't reply: it forms names of an EndpointSlice that can't be sent.
    Silence,
}

/// What eDNS did with a query.
#[derive(Debug)]
pub enum Seen {
    Kernel(Reply),
    Passed,
    Lost,
}

/// A client that compares TTLs, too.
pub fn client(node: &Node, ns: &str, edns: bool) -> Client {
    let mut client = Client::new(&node.lab, ns, DNS);
    client.ttls = true;
    client.edns = edns;
    client.set_timeout(QUICK);
    client
}

fn ask(client: &Client, (name, rtype): &Question) -> Seen {
    match client.ask_with_sender(name, *rtype) {
        Some((reply, true)) => Seen::Kernel(reply),
        Some((_, false)) => Seen::Passed,
        None => Seen::Lost,
    }
}

/// What eDNS did, and CoreDNS' reply.
pub fn ask_both(via_edns: &Client, direct: &Client, question: &Question) -> (Seen, Option<Reply>) {
    let reply = || direct.ask(&question.0, question.1);
    match (ask(via_edns, question), reply()) {
        (Seen::Lost, None) => (Seen::Lost, None),
        (Seen::Lost, reply) => {
            let tries = || (0..TRIES).map(|_| ask(via_edns, question)).find(|seen| !matches!(seen, Seen::Lost));
            (patiently(via_edns, tries).unwrap_or(Seen::Lost), reply)
        }
        (seen, None) => (seen, patiently(direct, || (0..TRIES).find_map(|_| reply()))),
        both => both,
    }
}

/// Asks again and again. Returns the number of each question with what eDNS did.
pub fn ask_until(client: &Client, questions: &[Question], over: &AtomicBool) -> Vec<(usize, Seen)> {
    let mut all = Vec::new();
    let mut silent = vec![false; questions.len()];
    for i in (0..questions.len()).cycle().take_while(|_| !over.load(Ordering::Relaxed)) {
        if all.len() > FAST {
            thread::sleep(PAUSE);
        }
        if silent[i] {
            continue;
        }
        let seen = match ask(client, &questions[i]) {
            Seen::Lost => patiently(client, || ask(client, &questions[i])),
            seen => seen,
        };
        silent[i] = matches!(seen, Seen::Lost);
        if all.len() < MOST {
            all.push((i, seen));
        }
    }
    all
}

fn patiently<T>(client: &Client, ask: impl FnOnce() -> T) -> T {
    client.set_timeout(PATIENCE);
    let result = ask();
    client.set_timeout(QUICK);
    result
}
