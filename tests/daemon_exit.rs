//! A filter keeps its program loaded after the daemon exits. The programs that it tail-calls are unloaded with the daemon,
//! before the heartbeat expires. Until then queries pass unchanged.

mod common;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use common::model::{addresses, node};
use common::packet::{Opt, Packet, Query, TYPE_A, hex};
use common::{TC_ACT_REDIRECT, TC_ACT_UNSPEC};
use edns::datapath::Program;
use edns::zone::name::Name;

const NAME: &str = "apis.example.org";

#[test]
fn without_the_program_that_replies_queries_pass_unchanged() {
    let (datapath, mut table) = common::load(false, 16);
    let record = node(vec![(TYPE_A, addresses(&[Ipv4Addr::new(10, 0, 0, 1)], 30))]);
    table.put(&Name::parse(NAME).expect("a name"), &record).expect("fits");
    let program = datapath.test_run(Program::Ethernet).expect("test run");
    // A query whose reply is longer than itself, and one whose reply is shorter.
    let padded = Opt { options: vec![0, 12, 0, 200].into_iter().chain([0; 200]).collect(), ..Opt::new(1232) };
    let queries = [Query::new(NAME, TYPE_A), Query::new(NAME, TYPE_A).edns(&padded)];
    let frames = queries.map(|query| Packet::v4(&query).frame());
    let mut out = vec![0; 2048];
    for frame in &frames {
        assert_eq!(program.run(frame, &mut out).expect("test run").0, TC_ACT_REDIRECT);
    }

    drop((datapath, table));
    let exited = Instant::now();
    for frame in &frames {
        // The kernel empties the program map asynchronously.
        while program.run(frame, &mut out).expect("test run").0 != TC_ACT_UNSPEC {
            assert!(exited.elapsed() < Duration::from_secs(2), "still answered");
        }
        let (_, len) = program.run(frame, &mut out).expect("test run");
        assert_eq!(hex(&out[..len]), hex(frame));
    }
}
