//! Asks both servers at rest, and eDNS alone for as long as something goes on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hickory_proto::rr::RecordType;

use crate::client::{Client, Reply, TRIES};
use crate::cluster::DNS;
use crate::node::Node;

/// What a reply takes at most, and on a machine that is too busy.
const QUICK: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(2);
/// Asked while something goes on, at most; and the pause between questions from some on, where news takes long.
const MOST: usize = 2000;
const FAST: usize = 300;
const PAUSE: Duration = Duration::from_millis(20);

pub type Question = (String, RecordType);

/// What eDNS has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    /// To answer like this, or to pass.
    Reply(Reply),
    Pass,
    /// To pass, since CoreDNS says nothing. It does so where it makes names of an EndpointSlice that can't be sent.
    Silence,
}

/// What it did.
#[derive(Debug)]
pub enum Seen {
    Kernel(Reply),
    Passed,
    Lost,
}

/// A client that looks at TTLs, too.
pub fn client(node: &Node, ns: &str, edns: bool) -> Client {
    let mut client = Client::new(&node.lab, ns, DNS);
    client.ttls = true;
    client.edns = edns;
    client.patience(QUICK);
    client
}

fn ask(client: &Client, (name, rtype): &Question) -> Seen {
    match client.ask_whom(name, *rtype) {
        Some((reply, true)) => Seen::Kernel(reply),
        Some((_, false)) => Seen::Passed,
        None => Seen::Lost,
    }
}

/// What eDNS did, and CoreDNS's reply.
pub fn ask_both(ours: &Client, theirs: &Client, question: &Question) -> (Seen, Option<Reply>) {
    let reply = || theirs.ask(&question.0, question.1);
    match (ask(ours, question), reply()) {
        (Seen::Lost, None) => (Seen::Lost, None),
        (Seen::Lost, reply) => {
            let tries = || (0..TRIES).map(|_| ask(ours, question)).find(|seen| !matches!(seen, Seen::Lost));
            (patiently(ours, tries).unwrap_or(Seen::Lost), reply)
        }
        (seen, None) => (seen, patiently(theirs, || (0..TRIES).find_map(|_| reply()))),
        both => both,
    }
}

/// Asks again and again; returns the number of each question with what became of it.
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
    client.patience(PATIENCE);
    let result = ask();
    client.patience(QUICK);
    result
}
