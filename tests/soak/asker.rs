//! Clients that check every reply.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::cluster::DNS;
use crate::lab::Lab;
use crate::rng::Rng;
use crate::truth::Truth;

/// Between questions, to leave processor time to the rest.
const PAUSE: Duration = Duration::from_micros(300);

pub struct Asker {
    client: Client,
    rng: Rng,
}

impl Asker {
    /// In this namespace of the lab.
    pub fn new(lab: &Lab, ns: &str, seed: u64) -> Self {
        Self { client: Client::new(lab, ns, DNS), rng: Rng::new(seed) }
    }

    /// Asks random questions until it is stopped.
    pub fn ask_until(&mut self, truth: &Truth, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            self.ask(truth);
            thread::sleep(PAUSE);
        }
    }

    /// Asks a random question.
    pub fn ask(&mut self, truth: &Truth) {
        let subject = self.rng.below(truth.subjects.len());
        let question = self.rng.below(truth.subjects[subject].questions.len());
        let asked = &truth.subjects[subject].questions[question];
        let (floor, start) = (truth.floor(subject, question), Instant::now());
        let reply = self.client.ask(&asked.name, asked.rtype);
        truth.note((subject, question), start, floor, reply.as_ref());
    }

    /// Whether eDNS answers on this interface yet.
    pub fn is_answered(&self, truth: &Truth) -> bool {
        let question = &truth.subjects[0].questions[0];
        self.client.ask(&question.name, question.rtype).is_some_and(|reply| reply.rcode != "Refused")
    }

    /// Asks every question while nothing is written. An error names the first reply that is not of the last version.
    pub fn ask_all(&mut self, truth: &Truth) -> Result<(), String> {
        for subject in &truth.subjects {
            for question in &subject.questions {
                let reply = self.client.ask(&question.name, question.rtype);
                let wanted = question.reply(subject.state());
                if reply.as_ref() != Some(&wanted) {
                    return Err(format!("{}: {reply:?}, not {wanted:?}", question.text()));
                }
            }
        }
        Ok(())
    }
}
