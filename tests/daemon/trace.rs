//! `edns trace` and `edns stats --top`: events of queries.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::{EDNS, Lab, SERVER, until};

/// A command that continues running, with its output in a file. The lab ends it.
struct Running {
    child: Child,
    out: PathBuf,
}

impl Running {
    fn start(lab: &Lab, file: &str, args: &[&str]) -> Self {
        let out = lab.path(file);
        let said = File::create(&out).unwrap();
        let child = lab
            .command("host", EDNS)
            .args(args)
            .arg("--config")
            .arg(lab.path("config.yaml"))
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap();
        Self { child, out }
    }

    /// Starts a trace and waits until it shows queries.
    fn trace(lab: &Lab, file: &str, args: &[&str]) -> Self {
        let trace = Self::start(lab, file, &[&["trace"], args].concat());
        until("the trace shows queries", || {
            lab.dig(&format!("@{SERVER} start.apps.example.org"));
            trace.shows("start.apps.example.org. A answered")
        });
        trace
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }

    fn shows(&self, text: &str) -> Result<(), String> {
        let said = self.said();
        if said.contains(text) { Ok(()) } else { Err(said) }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

fn lost(lab: &Lab) -> u64 {
    let stats: serde_json::Value = serde_json::from_slice(&lab.edns(&["stats", "--json"]).stdout).unwrap();
    stats["events_lost"].as_u64().unwrap()
}

fn flood(lab: &Lab) {
    lab.write("queries", "apis.example.org A\nnothing.example.org A\n");
    let report = lab.sh("pod", &format!("dnsperf -s {SERVER} -d queries -n 2500 -Q 5000 -q 5000 -c 1 -T 1 -t 2 2>&1"));
    assert!(report.contains("Queries completed:    2500 (50.00%)"), "{report}");
}

#[test]
fn every_query_is_shown_with_its_outcome() {
    let lab = Lab::new();
    let _daemon = lab.daemon();
    let trace = Running::trace(&lab, "trace", &[]);
    lab.dig(&format!("@{SERVER} APIS.example.org"));
    lab.dig("@fd77::1 apis.example.org AAAA");
    lab.dig(&format!("@{SERVER} nothing.example.org TXT"));
    lab.dig(&format!("@{SERVER} +opcode=4 apis.example.org"));
    // An attacker's name, which would clear the screen.
    lab.dig(&format!("@{SERVER} a\\027[2J\\.\\032b.example.org"));
    for end in [
        " > 10.77.0.1 APIS.example.org. A answered\n",
        " > fd77::1 apis.example.org. AAAA nodata\n",
        " > 10.77.0.1 nothing.example.org. TXT pass_not_found: name is not known here\n",
        " > 10.77.0.1 apis.example.org. A pass_malformed: not one plain question\n",
        " > 10.77.0.1 a\\027[2J\\.\\032b.example.org. A pass_not_found: name is not known here\n",
    ] {
        until("a line", || trace.shows(end));
    }
    let said = trace.said();
    let line = said.lines().find(|l| l.contains("AAAA nodata")).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    assert!(words[0].len() == "00:00:00.000000Z".len() && words[0].ends_with('Z'), "{line}");
    assert!(words[1] == "veth0" && words[2].starts_with("[fd77::2]:"), "{line}");
    assert!(said.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)), "{said:?}");
    // dig sends each query once.
    assert_eq!(said.matches("APIS").count(), 1, "{said}");
}

#[test]
fn names_and_interfaces_can_be_chosen() {
    let lab = Lab::new();
    lab.write("config.yaml", "Ifname: 'veth*'\nNetworkDirection: Ingress\n");
    lab.veth(("host", "veth1"), ("pod", "eth1"));
    lab.ip("host", "addr add 10.77.1.1/24 dev veth1");
    lab.ip("pod", "addr add 10.77.1.2/24 dev eth1");
    let _daemon = lab.daemon();
    let ask_all = || {
        for server in [SERVER, "10.77.1.1"] {
            lab.dig(&format!("@{server} apis.EXAMPLE.org"));
            lab.dig(&format!("@{server} q.apps.example.org"));
        }
    };
    let mut trace = Running::trace(&lab, "names", &["--name", "*.APPS.example.org"]);
    ask_all();
    until("both", || trace.shows("10.77.1.1 q.apps.example.org. A answered"));
    assert!(trace.shows("10.77.0.1 q.apps.example.org. A answered").is_ok() && !trace.said().contains("apis"));
    trace.signal(Signal::SIGINT);
    trace.wait();
    let trace = Running::start(&lab, "interface", &["trace", "--ifname", "veth1"]);
    until("one", || {
        ask_all();
        trace.shows("10.77.1.1 q.apps.example.org. A answered")
    });
    assert!(trace.shows("veth1 10.77.1.2:").is_ok() && !trace.said().contains("10.77.0.1"), "{}", trace.said());
}

#[test]
fn an_interface_without_the_program_is_an_error() {
    let lab = Lab::new();
    let _daemon = lab.daemon();
    let output = lab.edns(&["trace", "--ifname", "veth7"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("eDNS is not attached to veth7; it is attached to veth0"), "{said}");
}

#[test]
fn a_trace_ends_with_its_command_or_daemon() {
    let lab = Lab::new();
    let mut daemon = lab.daemon();
    let mut trace = Running::trace(&lab, "first", &[]);
    let mut second = Running::start(&lab, "second", &["trace"]);
    assert_eq!(second.wait(), Some(1));
    assert!(second.said().contains("another trace is running"), "{}", second.said());
    assert_eq!(lost(&lab), 0);
    trace.signal(Signal::SIGKILL);
    trace.wait();
    // Later events don't fit into the ring while the trace still writes.
    until("no more output", || {
        let before = lost(&lab);
        flood(&lab);
        if lost(&lab) == before { Ok(()) } else { Err(String::new()) }
    });
    // Events that were left in the ring don't appear in the next trace.
    lab.dig(&format!("@{SERVER} before.apps.example.org"));
    let mut trace = Running::trace(&lab, "third", &[]);
    assert!(!trace.said().contains("before") && !trace.said().contains("nothing"), "{}", trace.said());
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(), Some(0));
    assert_eq!(trace.wait(), Some(1));
    assert!(trace.said().contains("does not answer"), "{}", trace.said());
}

#[test]
fn a_slow_reader_delays_nothing_and_is_told_of_lost_events() {
    let lab = Lab::new();
    let _daemon = lab.daemon();
    let trace = Running::trace(&lab, "trace", &[]);
    trace.signal(Signal::SIGSTOP);
    flood(&lab);
    assert!(lost(&lab) > 2500, "of 5000 the ring holds some hundred");
    assert_eq!(lab.count("pass_error") + lab.count("pass_daemon"), 0);
    trace.signal(Signal::SIGCONT);
    until("the loss is reported", || trace.shows("queries are not shown: they came faster than they can be read"));
}

#[test]
fn the_most_queried_names_are_shown_on_request() {
    let lab = Lab::new();
    let _daemon = lab.daemon();
    let mut top = Running::start(&lab, "top", &["stats", "--watch", "--top", "2"]);
    until("names", || {
        for name in
            ["Apis.example.org", "apis.example.org", "db.example.org", "apis.example.org", "db.example.org", "x.y"]
        {
            lab.dig(&format!("@{SERVER} {name}"));
        }
        top.shows("%  apis.example.org.\n").and_then(|()| top.shows("%  db.example.org.\n"))
    });
    assert!(top.said().contains("most queried names in ") && !top.said().contains("x.y."), "{}", top.said());
    top.signal(Signal::SIGINT);
    top.wait();
    // Without a trace `stats` only reads counters.
    assert_eq!(lab.edns(&["stats", "--top"]).status.code(), Some(2));
    let _trace = Running::trace(&lab, "trace", &[]);
}
