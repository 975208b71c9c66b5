//! Mutated queries of all kinds against a strict parser and a model of the zone. The program answers a packet if and only if
//! it is a query that the zone answers, and the answer is correct; every other packet stays unchanged.
//!
//! EDNS_FUZZ_PACKETS sets the number of packets, EDNS_FUZZ_SEED repeats a run.

mod common;

use std::time::{Duration, Instant};

use common::decode::{self, Asked, Datagram};
use common::model::{Model, agrees};
use common::mutate::{mutated, zone};
use common::packet::{ETHERNET, IPV6, hex};
use common::rng::Rng;
use common::{TC_ACT_REDIRECT, TC_ACT_UNSPEC, env_number};
use edns::datapath::{Datapath, Program, TestRun};

const OUT_MAX: usize = 8192;
const BEAT_EVERY: Duration = Duration::from_millis(500);

#[test]
fn packets_are_answered_correctly_or_unchanged() {
    let packets = env_number("EDNS_FUZZ_PACKETS", 300_000);
    let started = Instant::now();
    let default_seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_nanos();
    let seed = env_number("EDNS_FUZZ_SEED", default_seed as u64);
    eprintln!("EDNS_FUZZ_SEED={seed}");

    let (datapath, mut table) = common::load(false, 1024);
    let model = zone(&mut table);
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let programs: Vec<_> = (0..threads).map(|_| datapath.test_run(Program::Ethernet).expect("test run")).collect();
    let share = packets.div_ceil(threads);
    let totals = std::thread::scope(|s| {
        let workers: Vec<_> = programs
            .iter()
            .zip(0..)
            .map(|(program, i)| {
                let model = &model;
                s.spawn(move || fuzz(program, model, seed, i * share..(i + 1) * share))
            })
            .collect();
        beat_until(&datapath, || workers.iter().all(|w| w.is_finished()));
        workers.into_iter().fold([0, 0], |sum, worker| match worker.join() {
            Ok(counts) => [sum[0] + counts[0], sum[1] + counts[1]],
            Err(panic) => std::panic::resume_unwind(panic),
        })
    });
    let [answered, passed] = totals;
    eprintln!("{answered} answered, {passed} passed in {:.1} s", started.elapsed().as_secs_f64());
    // If nearly all or nearly no packets are answered, the fuzzer tests little.
    assert!(answered > packets / 10 && passed > packets / 10, "{answered} answered, {passed} passed");
}

fn beat_until(datapath: &Datapath, done: impl Fn() -> bool) {
    let mut last = Instant::now();
    while !done() {
        if last.elapsed() > BEAT_EVERY {
            datapath.beat().expect("heartbeat");
            last = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn fuzz(program: &TestRun, model: &Model, seed: u64, numbers: std::ops::Range<u64>) -> [u64; 2] {
    let names: Vec<Vec<u8>> = {
        let mut names: Vec<_> = model.names().map(<[u8]>::to_vec).collect();
        // The order of a HashMap differs between runs.
        names.sort();
        names
    };
    let mut out = vec![0; OUT_MAX];
    let mut counts = [0; 2];
    for number in numbers {
        // Each packet has a seed of its own: a failing packet is the same for any number of threads.
        let mut rng = Rng::new(seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let frame = mutated(&mut rng, &names);
        let (verdict, len) = match program.run(&frame, &mut out) {
            Ok(result) => result,
            // Not a frame for a test run: the IP header is truncated.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) && frame.len() < ETHERNET + IPV6 => continue,
            Err(e) => panic!("EDNS_FUZZ_SEED={seed}, packet {number}: {e}\n{}", hex(&frame)),
        };
        match check(model, &frame, verdict, &out[..len]) {
            Ok(true) => counts[0] += 1,
            Ok(false) => counts[1] += 1,
            Err(e) => panic!(
                "EDNS_FUZZ_SEED={seed}, packet {number}: {e}\nsent\n{}afterwards\n{}",
                hex(&frame),
                hex(&out[..len])
            ),
        }
    }
    counts
}

/// Whether the packet was answered. An error if it should not have been, or if the answer is wrong.
fn check(model: &Model, frame: &[u8], verdict: u32, out: &[u8]) -> Result<bool, String> {
    let datagram = Datagram::read(frame, ETHERNET);
    let asked = datagram.as_ref().map_err(String::clone).and_then(Asked::read);
    let expected = asked.as_ref().ok().and_then(|asked| model.expected(asked));
    match verdict {
        TC_ACT_UNSPEC if frame != out => Err("passed, but changed".into()),
        TC_ACT_UNSPEC => match expected {
            Some(answer) => Err(format!("passed, but it should get {answer:?}")),
            None => Ok(false),
        },
        TC_ACT_REDIRECT => {
            let reply = decode::reply(frame, out, ETHERNET)?;
            let answer = expected.ok_or("answered, but it is not in the zone or too large")?;
            agrees(&reply, &asked?, answer)?;
            Ok(true)
        }
        other => Err(format!("verdict {other}")),
    }
}
