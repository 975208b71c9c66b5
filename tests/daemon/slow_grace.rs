//! Slow grace periods: the kernel may take long until all programs have ended that could read a replaced node.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::lab::{Daemon, Lab, SERVER, run, until};

const NAMES: usize = 100_000;

fn domains(address: &str) -> String {
    let names: String = (1..NAMES).map(|i| format!("  - Name: n{i}.example.org\n    IP: {address}\n")).collect();
    format!("Domains:\n  - Name: \"*.apps.example.org\"\n    IP: 10.0.0.9\n{names}")
}

/// A daemon for which every grace period takes longer, by as many milliseconds as the file `grace` says.
fn slow_daemon(lab: &Lab) -> Daemon {
    let library = lab.path("slow_grace.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemon/slow_grace.c");
    run(Command::new("cc").args(["-shared", "-fPIC", "-O1", "-Wall", "-o"]).arg(&library).arg(source));
    let daemon = lab.spawn_with("host", "config.yaml", &[("LD_PRELOAD", library), ("SLOW_GRACE", lab.path("grace"))]);
    daemon.wait_for("ready");
    daemon
}

/// A full map whose names all change, while each grace period takes seconds.
#[test]
fn slow_grace_periods_delay_neither_heartbeat_nor_commands() {
    let lab = Lab::new();
    lab.configure(&format!("Ifname: veth0\nNetworkDirection: Ingress\nMaxRecords: {NAMES}\n"));
    lab.write("domain.yaml", &domains("10.0.0.5"));
    let daemon = slow_daemon(&lab);
    let ask = |name: &str| lab.dig(&format!("@{SERVER} +short {name}"));
    assert_eq!(ask("q.apps.example.org"), "10.0.0.9");

    lab.write("grace", "5000");
    lab.write("new.yaml", &domains("10.0.0.6"));
    fs::rename(lab.path("new.yaml"), lab.path("domain.yaml")).unwrap();
    daemon.wait_for("map updates late by more than");
    // Existing names get their old or their new answer. Negative answers are suspended, because names may have been added
    // meanwhile.
    let answer = ask("n5.example.org");
    assert!(["10.0.0.5", "10.0.0.6"].contains(&&*answer), "{answer}");
    assert!(ask("q.apps.example.org").contains("no servers"));
    assert!(lab.count("pass_stale") >= 1);
    let lookup = lab.edns(&["lookup", "n6.example.org"]);
    assert!(lookup.status.success(), "{lookup:?}");
    let records = lab.edns(&["records"]);
    let records = String::from_utf8_lossy(&records.stdout);
    assert!(records.lines().count() >= NAMES, "{} lines", records.lines().count());
    assert!(!daemon.log().contains("reloaded"), "the grace period ended too early: {}", daemon.log());

    fs::remove_file(lab.path("grace")).unwrap();
    daemon.wait_for("reloaded after a changed file");
    assert_eq!(ask("n5.example.org"), "10.0.0.6");
    assert_eq!(ask("q.apps.example.org"), "10.0.0.9");
    assert_eq!(lab.counts(&["pass_daemon"]), 0, "{}", daemon.log());
}

/// Stopping the daemon takes no longer either.
#[test]
fn a_daemon_that_waits_for_a_grace_period_exits_at_once() {
    let lab = Lab::new();
    let mut daemon = slow_daemon(&lab);
    // Longer than the test waits.
    lab.write("grace", "600000");
    lab.write("domain.yaml", &domains("10.0.0.5"));
    until("the daemon waits", || match daemon.log() {
        log if log.contains("map updates late") => Ok(()),
        log => Err(log),
    });
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
    assert_eq!(lab.tcx_programs("host", "veth0") + lab.filters("host", "veth0"), 0);
}
