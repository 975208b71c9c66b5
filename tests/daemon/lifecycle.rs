//! Start and exit, and all ways in which a daemon dies or hangs.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::lab::{Daemon, EDNS, Lab, PATIENCE, SERVER, until};

fn is_answered(lab: &Lab) -> bool {
    lab.dig(&format!("@{SERVER} +short apis.example.org")) == "172.16.171.52"
}

fn programs(lab: &Lab) -> usize {
    lab.tcx_programs("host", "veth0")
}

#[test]
fn sigterm_and_sigint_detach_and_exit_0() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let lab = Lab::new();
        let mut daemon = lab.daemon();
        assert!(is_answered(&lab));
        assert_eq!(programs(&lab), 1);
        daemon.signal(signal);
        assert_eq!(daemon.wait(), Some(0));
        assert_eq!(programs(&lab), 0);
        assert!(!is_answered(&lab));
        let reply = lab.edns(&["stats"]);
        assert_eq!(reply.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&reply.stderr).contains("no daemon runs with"), "{reply:?}");
    }
}

#[test]
fn a_command_for_a_config_without_a_daemon_names_the_running_daemons() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    lab.write("other.yaml", "Ifname: veth0\n");
    let other = lab.path("other.yaml");
    let reply = Command::new(EDNS).arg("stats").arg("--config").arg(&other).output().unwrap();
    assert_eq!(reply.status.code(), Some(1));
    let said = String::from_utf8_lossy(&reply.stderr).into_owned();
    assert!(said.contains("these run: ") && said.contains(&format!("pid {} (", daemon.pid())), "{said}");
    let reach = format!("): --config {}", lab.path("config.yaml").display());
    assert!(said.contains(&reach), "{said}");
}

#[test]
fn in_a_clone_a_command_asks_the_installed_daemon_if_only_that_runs() {
    let lab = Lab::new();
    // An /etc/edns and a /run/edns of this test's own.
    lab.sh("host", "mkdir -p /etc/edns /run/edns clone/configs; cp config.yaml clone/configs");
    let script = "mount -t tmpfs none /etc/edns; mount -t tmpfs none /run/edns; cp config.yaml domain.yaml /etc/edns; \
                  exec \"$0\" --config /etc/edns/config.yaml";
    let mut command = lab.command("host", "unshare");
    command.args(["-m", "sh", "-ec", script, EDNS]).current_dir(&lab.dir);
    let daemon = Daemon::of(&lab, command);
    daemon.wait_for("ready");
    let stats = |args: &[&str]| {
        let mut command = Command::new("nsenter");
        let pid = daemon.pid().to_string();
        command.args(["-m", "-t", &pid, "sh", "-ec", "cd \"$0\"; exec \"$@\""]).arg(lab.path("clone"));
        let output = command.args([EDNS, "stats"]).args(args).output().unwrap();
        let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (status, out, err) = stats(&[]);
    assert!(status == Some(0) && out.contains(&format!("(pid {})", daemon.pid())), "{out}{err}");
    assert_eq!(err, "edns: no daemon runs with configs/config.yaml; asking the one with /etc/edns/config.yaml\n");
    let (status, _, err) = stats(&["--config", "configs/config.yaml"]);
    assert!(status == Some(1) && err.contains("): --config /etc/edns/config.yaml"), "{err}");
}

#[test]
fn kill_9_leaves_nothing_that_answers() {
    let lab = Lab::new();
    let mut daemon = lab.daemon();
    assert!(is_answered(&lab));
    daemon.signal(Signal::SIGKILL);
    assert_eq!(daemon.wait(), None);
    assert!(!is_answered(&lab));
    assert_eq!(programs(&lab), 0);
    // The next daemon starts normally.
    let _next = lab.daemon();
    assert!(is_answered(&lab));
}

#[test]
fn a_stopped_daemons_program_passes_everything_within_three_seconds() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    assert!(is_answered(&lab));
    daemon.signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    sleep(Duration::from_millis(2900).saturating_sub(stopped.elapsed()));
    assert!(!is_answered(&lab), "after {:?}", stopped.elapsed());
    let said = lab.edns(&["stats"]);
    assert_eq!(said.status.code(), Some(1));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("does not answer (timed out): is it stopped"), "{said}");
    daemon.signal(Signal::SIGCONT);
    until("it answers again", || if is_answered(&lab) { Ok(()) } else { Err(String::new()) });
    assert!(lab.count("pass_daemon") >= 1);
}

#[test]
fn a_second_daemon_of_the_same_config_takes_over_without_a_gap() {
    let lab = Lab::new();
    // An upgrade: the same program from another path, as another version.
    let upgrade = lab.path("edns-upgrade");
    std::fs::copy(EDNS, &upgrade).unwrap();
    let mut first = lab.daemon();
    lab.write("queries", "apis.example.org A\n");
    let client = std::thread::scope(|scope| {
        let client = scope.spawn(|| lab.sh("pod", &format!("dnsperf -s {SERVER} -d queries -l 6 -Q 2000 -t 1")));
        sleep(Duration::from_millis(500));
        let mut second = lab.spawn_program(upgrade.to_str().unwrap(), "host", "config.yaml", &[]);
        second.wait_for(&format!("taking over from pid {}", first.pid()));
        second.wait_for("ready");
        let pid = |text: &str| text.split("(pid ").nth(1).and_then(|t| t.split(')').next()).map(str::to_owned);
        let stats = String::from_utf8_lossy(&lab.edns(&["stats"]).stdout).into_owned();
        first.signal(Signal::SIGTERM);
        assert_eq!(first.wait(), Some(0));
        let after = String::from_utf8_lossy(&lab.edns(&["stats"]).stdout).into_owned();
        assert!(pid(&stats).is_some() && pid(&stats) == pid(&after), "commands follow the second: {stats} {after}");
        let report = client.join().unwrap();
        assert!(lab.count("answered") > 100, "the second answers");
        second.signal(Signal::SIGTERM);
        assert_eq!(second.wait(), Some(0));
        report
    });
    assert!(client.contains("Queries lost:         0 (0.00%)"), "{client}");
}

#[test]
fn a_full_map_is_an_error_and_the_names_in_it_are_answered() {
    let lab = Lab::new();
    lab.write("config.yaml", "Ifname: veth0\nNetworkDirection: Ingress\nMaxRecords: 3\n");
    let names = |n: usize| {
        let entry = |i| format!("  - Name: n{i}.example.org\n    IP: 10.1.0.{i}\n");
        format!("Domains:\n{}  - Name: '*.w.example.org'\n    IP: 10.2.0.1\n", (0..n).map(entry).collect::<String>())
    };
    lab.write("domain.yaml", &names(4));
    let daemon = lab.daemon();
    daemon.wait_for("MaxRecords allows 3 names");
    // Three of the four names and the wildcard's name fit.
    let is_answered = |i: &u8| lab.dig(&format!("@{SERVER} +short n{i}.example.org")) == format!("10.1.0.{i}");
    let answered = (0..4).filter(is_answered).count();
    assert!((2..=3).contains(&answered), "{answered}");
    // A name that did not fit is not answered by the wildcard. The wildcard still answers other names, if it fits itself.
    let wildcard = lab.dig(&format!("@{SERVER} a.w.example.org"));
    let holds = if answered == 2 { "10.2.0.1" } else { "no servers could be reached" };
    assert!(wildcard.contains(holds), "{answered} names: {wildcard}");
    lab.write("domain.yaml", &names(2));
    for (name, address) in [("n0", "10.1.0.0"), ("n1", "10.1.0.1"), ("a.w", "10.2.0.1")] {
        until("all names fit and are answered", || match lab.dig(&format!("@{SERVER} +short {name}.example.org")) {
            a if a == address => Ok(()),
            other => Err(format!("{name}: {other}")),
        });
    }
}

/// The memory limit of a pod counts the process and the maps, some of which are mapped by the process.
#[test]
fn with_the_most_names_it_stays_below_the_memory_limit_of_the_manifest() {
    const NAMES: usize = 262_144; // MaxRecords' default
    let limit = include_str!("../../configs/kubernetes/daemonset.yaml").split_once("limits: {memory: ").unwrap().1;
    let limit: usize = limit.split_once("Mi}").unwrap().0.parse().unwrap();
    let lab = Lab::new();
    lab.configure("Ifname: veth0\nNetworkDirection: Ingress\n");
    let entry = |i: usize| {
        let [_, a, b, c] = (i as u32).to_be_bytes();
        format!("  - Name: web-{i}.default.svc.cluster.example\n    IP: 10.{a}.{b}.{c}\n")
    };
    lab.write("domain.yaml", &format!("Domains:\n{}", (0..NAMES).map(entry).collect::<String>()));
    let daemon = lab.daemon();
    let stats = serde_json::from_slice::<serde_json::Value>(&lab.edns(&["stats", "--json"]).stdout).unwrap();
    assert_eq!((&stats["records"], &stats["refused_records"]), (&NAMES.into(), &0.into()), "{}", daemon.log());
    let (peak, maps) = (daemon.peak(), stats["map_bytes"].as_u64().unwrap() as usize >> 20);
    assert!(peak + maps < limit, "{peak} MiB at most, and maps of {maps} MiB; {limit} MiB are allowed");
    assert_eq!(lab.dig(&format!("@{SERVER} +short web-262143.default.svc.cluster.example")), "10.3.255.255");
}

#[test]
fn a_start_that_fails_or_ends_leaves_the_commands_to_the_running_daemon() {
    let lab = Lab::new();
    let first = lab.daemon();
    let pid = |lab: &Lab| {
        serde_json::from_slice::<serde_json::Value>(&lab.edns(&["stats", "--json"]).stdout).unwrap()["pid"].clone()
    };
    let pid_of_first = pid(&lab);
    // In a namespace without that interface.
    let mut failing = lab.spawn("pod", "config.yaml");
    assert_eq!(failing.wait(), Some(1));
    assert_eq!(pid(&lab), pid_of_first);
    let mut second = lab.daemon();
    assert_ne!(pid(&lab), pid_of_first);
    second.signal(Signal::SIGTERM);
    assert_eq!(second.wait(), Some(0));
    until("commands reach the first daemon again", || match lab.edns(&["stats"]).status.code() {
        Some(0) => Ok(()),
        code => Err(format!("{code:?}")),
    });
    assert_eq!(pid(&lab), pid_of_first);
    assert!(is_answered(&lab));
    drop(first);
}

#[test]
fn systemd_is_notified_of_start_watchdog_and_exit() {
    use std::os::unix::net::UnixDatagram;
    let lab = Lab::new();
    let socket = UnixDatagram::bind(lab.path("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(PATIENCE))).unwrap();
    let mut daemon = lab.spawn_with("host", "config.yaml", &[("NOTIFY_SOCKET", lab.path("notify"))]);
    let mut buffer = [0; 256];
    let mut wait_for = |wanted: &str| {
        loop {
            let len = socket.recv(&mut buffer).unwrap_or_else(|e| panic!("{wanted}: {e}"));
            if String::from_utf8_lossy(&buffer[..len]).lines().any(|l| l == wanted) {
                break;
            }
        }
    };
    wait_for("READY=1");
    wait_for("WATCHDOG=1");
    wait_for("WATCHDOG=1");
    daemon.signal(Signal::SIGTERM);
    wait_for("STOPPING=1");
    assert_eq!(daemon.wait(), Some(0));
}
