//! Pods that come and go. Each gets a veth, is answered in the kernel soon and until its end, and is deleted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::asker::Asker;
use crate::lab::Lab;
use crate::rng::Rng;
use crate::truth::Truth;

const SLOTS: usize = 4;
/// From an interface that is up to the first answer in the kernel.
const ATTACHED_BY: Duration = Duration::from_secs(5);
/// Questions of each pod.
const QUESTIONS: usize = 20;
/// Between events.
const PAUSE: Duration = Duration::from_millis(100);

/// Creates the namespaces.
pub fn prepare(lab: &mut Lab) {
    for slot in 0..SLOTS {
        lab.add(&namespace(slot));
    }
}

/// Creates pods, lets them ask, and deletes them, until it is stopped; then deletes all.
pub fn churn(lab: &Lab, truth: &Truth, seed: u64, over: &AtomicBool) {
    let mut rng = Rng::new(seed);
    let mut pods: [Option<Asker>; SLOTS] = Default::default();
    while !over.load(Ordering::Relaxed) {
        let slot = rng.below(SLOTS);
        match &mut pods[slot] {
            None => pods[slot] = Some(come(lab, truth, slot, rng.next())),
            Some(pod) if rng.one_in(2) => (0..QUESTIONS).for_each(|_| pod.ask(truth)),
            Some(_) => {
                go(lab, slot);
                pods[slot] = None;
            }
        }
        thread::sleep(PAUSE);
    }
    (0..SLOTS).filter(|slot| pods[*slot].is_some()).for_each(|slot| go(lab, slot));
}

fn namespace(slot: usize) -> String {
    format!("pod{slot}")
}

fn come(lab: &Lab, truth: &Truth, slot: usize, seed: u64) -> Asker {
    let (ns, veth) = (namespace(slot), format!("pod{slot}"));
    lab.veth(("host", &veth), (&ns, "eth0"));
    lab.ip("host", &format!("addr add 10.78.{slot}.1/24 dev {veth}"));
    lab.ip(&ns, &format!("addr add 10.78.{slot}.2/24 dev eth0"));
    lab.ip(&ns, &format!("route add default via 10.78.{slot}.1"));
    let pod = Asker::new(lab, &ns, seed);
    let up = Instant::now();
    while !pod.is_answered(truth) {
        assert!(up.elapsed() < ATTACHED_BY, "{veth} was created at {:.3} s and is not attached", truth.seconds(up));
        thread::sleep(Duration::from_millis(5));
    }
    pod
}

fn go(lab: &Lab, slot: usize) {
    lab.ip("host", &format!("link del pod{slot}"));
}
