//! A file that is written in pieces, in all ways, again and again. Every answer was correct in some complete version.
//! EDNS_REWRITES sets the number of versions.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::common::env_number;
use crate::common::packet::{Query, TYPE_A};
use crate::common::rng::Rng;
use crate::lab::{Lab, RefusingServer, SERVER, until};
use crate::sockets::{Client, Reply};

const NAMES: usize = 300;
/// One in this many versions is shorter and takes longer to settle.
const SHORTER: usize = 20;

/// The address of a name in a version: three digits per octet, so that a part of an address is an address that no version
/// has.
type Version = [u8; 2];

fn address(version: Version, name: usize) -> [u8; 4] {
    [210, version[0], version[1], 100 + (name % 100) as u8]
}

fn name(i: usize) -> String {
    format!("n{i}.example.org")
}

fn text(version: Version, comment: &str) -> String {
    let entry = |i: usize| {
        let [a, b, c, d] = address(version, i);
        format!("  - Name: {}\n    IP: {a}.{b}.{c}.{d}\n", name(i))
    };
    let entries: String = (0..NAMES).map(entry).collect();
    format!("# {comment}\nDomains:\n{entries}")
}

/// Writes a text in pieces of random sizes, with pauses.
fn write(file: &mut File, text: &str, rng: &mut Rng) {
    let mut left = text.as_bytes();
    while !left.is_empty() {
        let (piece, rest) = left.split_at((1 + rng.below(6000)).min(left.len()));
        file.write_all(piece).unwrap();
        left = rest;
        if rng.one_in(3) {
            sleep(Duration::from_millis(rng.below(12) as u64));
        }
        // Sometimes for longer than a change takes to settle.
        if rng.one_in(40) {
            sleep(Duration::from_millis(150));
        }
    }
}

/// Makes `text` the content of the file, in a random way.
fn rewrite(lab: &Lab, text: &str, rng: &mut Rng) {
    let path = lab.path("domain.yaml");
    let renamed = rng.one_in(4);
    let at = if renamed { lab.path("new") } else { path.clone() };
    // Over the old content or after truncation; or, as editors do that keep the old file, in both files' place.
    let kept = rng.one_in(3) && !renamed;
    if !renamed && !kept && rng.one_in(4) {
        fs::rename(&path, lab.path("old")).unwrap();
    }
    let mut file = OpenOptions::new().write(true).create(true).truncate(!kept).open(&at).unwrap();
    write(&mut file, text, rng);
    file.set_len(text.len() as u64).unwrap();
    drop(file);
    if renamed {
        fs::rename(at, path).unwrap();
    }
}

/// Asks until it is stopped. Returns the answers of each name.
fn ask(client: &Client, stop: &AtomicBool) -> HashSet<(usize, Vec<u8>)> {
    let mut answers = HashSet::new();
    let queries: Vec<Query> = (0..NAMES).map(|i| Query::new(&name(i), TYPE_A)).collect();
    for (i, query) in queries.iter().enumerate().cycle() {
        if stop.load(Ordering::Relaxed) {
            return answers;
        }
        match client.ask(query).unwrap_or_else(|e| panic!("lost or damaged: {e}")) {
            Reply::Edns(data, _) => answers.extend(data.into_iter().map(|address| (i, address))),
            Reply::Server => panic!("{} passed, though each version has it", name(i)),
        };
    }
    answers
}

#[test]
fn each_answer_was_correct_in_a_complete_version() {
    let rewrites = env_number("EDNS_REWRITES", 200) as usize;
    let lab = Lab::new();
    let _server = RefusingServer::new(&lab, "host", &[SERVER]);
    let mut rng = Rng::new(rewrites as u64);
    let mut versions = vec![[100, 100]];
    lab.write("domain.yaml", &text(versions[0], ""));
    let daemon = lab.daemon();
    let client = Client::new(&lab, "pod", SERVER);
    let last = Query::new(&name(NAMES - 1), TYPE_A);
    let stop = AtomicBool::new(false);
    let (answers, took) = std::thread::scope(|scope| {
        let guard = Stop(&stop);
        let asker = scope.spawn(|| ask(&Client::new(&lab, "pod", SERVER), &stop));
        let began = Instant::now();
        for i in 1..=rewrites {
            let version = [100 + rng.below(156) as u8, 100 + rng.below(156) as u8];
            if version == versions[i - 1] {
                versions.push(version);
                continue;
            }
            versions.push(version);
            let comment = if i % SHORTER == 0 { "" } else { "of the usual length" };
            rewrite(&lab, &text(version, comment), &mut rng);
            until(&format!("version {i}"), || match client.ask(&last) {
                Ok(Reply::Edns(data, _)) if data == [address(version, NAMES - 1)] => Ok(()),
                other => Err(format!("{other:?}: {}", daemon.log())),
            });
            assert!(!asker.is_finished(), "after version {i}");
        }
        let took = began.elapsed();
        drop(guard);
        (asker.join().unwrap(), took)
    });
    for (i, address_of) in &answers {
        let was_correct = versions.iter().any(|v| address(*v, *i)[..] == address_of[..]);
        assert!(was_correct, "{} was never {address_of:?}: {}", name(*i), daemon.log());
    }
    let log = daemon.log();
    assert!(log.matches("reloaded after a changed file").count() >= rewrites - 1, "{log}");
    assert!(!log.contains(" WARN "), "{log}");
    println!("{rewrites} versions in {took:?}, {} answers that differ", answers.len());
}

/// Stops threads when dropped, also after a failure.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
