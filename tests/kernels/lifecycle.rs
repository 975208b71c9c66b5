//! Daemons that die, hang, or hand over to the next one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::common::packet::{Query, TYPE_A};
use crate::hooks::has_tcx;
use crate::lab;
use crate::lab::{RefusingServer, SERVER, until};
use crate::sockets::{Client, Reply};

const INGRESS: &str = "Ifname: veth0\nNetworkDirection: Ingress\n";
/// The promised time until the program of a dead daemon passes everything.
const BOUND: Duration = Duration::from_secs(3);

fn is_answered(client: &Client) -> bool {
    match client.ask(&Query::new("apis.example.org", TYPE_A)) {
        Ok(Reply::Edns(data, _)) => data == [[172, 16, 171, 52]],
        Ok(Reply::Server) => false,
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn the_filter_that_kill_9_leaves_passes_everything_and_is_replaced() {
    let lab = lab(INGRESS);
    let _server = RefusingServer::new(&lab, "host", &[SERVER]);
    let client = Client::new(&lab, "pod", SERVER);
    // The second daemon's filter has another priority and doesn't replace the first one's.
    for priority in [3, 1] {
        lab.configure(&format!("{INGRESS}TcPriority: {priority}\n"));
        let mut daemon = lab.daemon();
        assert!(is_answered(&client));
        daemon.signal(Signal::SIGKILL);
        let killed = Instant::now();
        assert_eq!(daemon.wait(), None);
        assert_eq!(lab.filters("host", "veth0"), usize::from(!has_tcx()));
        std::thread::sleep(BOUND.saturating_sub(killed.elapsed()));
        assert!(!is_answered(&client), "{:?} after its daemon", killed.elapsed());
    }
    let mut next = lab.daemon();
    assert!(is_answered(&client));
    assert_eq!(lab.filters("host", "veth0"), usize::from(!has_tcx()));
    next.signal(Signal::SIGTERM);
    assert_eq!(next.wait(), Some(0));
    assert_eq!(lab.filters("host", "veth0"), 0);
    assert!(!is_answered(&client));
}

#[test]
fn a_stopped_daemons_program_passes_everything() {
    let lab = lab(INGRESS);
    let _server = RefusingServer::new(&lab, "host", &[SERVER]);
    let client = Client::new(&lab, "pod", SERVER);
    let daemon = lab.daemon();
    assert!(is_answered(&client));
    daemon.signal(Signal::SIGSTOP);
    std::thread::sleep(BOUND);
    assert!(!is_answered(&client));
    daemon.signal(Signal::SIGCONT);
    until("it answers again", || if is_answered(&client) { Ok(()) } else { Err(String::new()) });
}

#[test]
fn the_next_daemon_takes_over_without_a_gap() {
    for direction in ["Ingress", "Egress"] {
        let lab = lab(&format!("Ifname: veth0\nNetworkDirection: {direction}\n"));
        let (ns, server) = if direction == "Ingress" { ("pod", SERVER) } else { ("host", "10.77.0.2") };
        let _server = RefusingServer::new(&lab, if ns == "pod" { "host" } else { "pod" }, &[server]);
        let mut first = lab.daemon();
        let client = Client::new(&lab, ns, server);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let mut asked = 0;
                while !stop.load(Ordering::Relaxed) {
                    assert!(is_answered(&client), "{direction}: query {asked} passed");
                    asked += 1;
                }
                asked
            });
            let mut second = lab.daemon();
            first.signal(Signal::SIGTERM);
            assert_eq!(first.wait(), Some(0));
            std::thread::sleep(Duration::from_millis(200));
            stop.store(true, Ordering::Relaxed);
            assert!(asking.join().unwrap() > 10);
            assert_eq!(lab.filters("host", "veth0"), usize::from(!has_tcx()));
            second.signal(Signal::SIGTERM);
            assert_eq!(second.wait(), Some(0));
        });
    }
}
