//! The same zone of 10,000 names behind eDNS, the prototype and DNS servers, one at a time.

use std::fmt::Write as _;
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use edns::datapath::{Program, probe};

use crate::lab::{Lab, NODE_IFNAME, SERVER};
use crate::programs::{address, attach, load_baseline, load_edns, name, with_beat};
use crate::{Effort, median, traffic};

const NAMES: usize = 10_000;
/// At which latency is compared; queries a second.
const STEADY: u32 = 20_000;

/// Prints the table.
pub fn compare(effort: &Effort, lab: &Lab, baseline: &Path, scratch: &Path) {
    let queries = traffic::query_file(scratch, NAMES);
    let object = load_baseline(baseline, NAMES);
    let prototype = object.progs().find(|p| p.name() == "prototype").expect("a baseline");
    let (datapath, _table, _, _) = load_edns(NAMES);
    let contenders = [
        Contender::Program(
            "edns",
            datapath.program(Program::EthernetToPeer).expect("a program").try_clone_to_owned().expect("a descriptor"),
        ),
        Contender::Program("prototype", prototype.as_fd().try_clone_to_owned().expect("a descriptor")),
        Contender::Server("NSD", nsd(scratch)),
        Contender::Server("Knot DNS", knot(scratch)),
        Contender::Server("dnsmasq", dnsmasq(scratch)),
    ];
    let mut results = vec![[const { Vec::new() }; 3]; contenders.len()];
    for _ in 0..effort.rounds {
        for (contender, [rates, means, p99s]) in contenders.iter().zip(&mut results) {
            let _running = contender.start(lab);
            let (rate, (mean, p99)) = with_beat(&datapath, || {
                let rate = traffic::dnsperf(lab, &queries, effort.time);
                (rate, traffic::latency(lab, &queries, STEADY, effort.time, scratch))
            });
            rates.push(rate);
            means.push(mean);
            p99s.push(p99);
        }
    }
    println!("\n## Against DNS servers: {NAMES} names, one veth pair, dnsperf in the pod\n");
    println!("| | queries/s | mean latency at {STEADY} q/s | p99 |");
    println!("| --- | --- | --- | --- |");
    for (contender, values) in contenders.iter().zip(results) {
        let (Contender::Program(name, _) | Contender::Server(name, _)) = contender;
        let [rate, mean, p99] = values.map(median);
        println!("| {name} | {rate:.0} | {mean:.0} µs | {p99:.0} µs |");
    }
}

enum Contender {
    Program(&'static str, OwnedFd),
    Server(&'static str, Vec<String>),
}

/// Stops answering when dropped.
enum Running {
    Link { _link: OwnedFd },
    Server(Child),
}

impl Contender {
    fn start(&self, lab: &Lab) -> Running {
        match self {
            Self::Program(_, program) => Running::Link { _link: attach(program.as_fd(), NODE_IFNAME) },
            Self::Server(name, command) => {
                let child = Command::new(&command[0])
                    .args(&command[1..])
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap_or_else(|e| panic!("{name}: {}: {e}", command[0]));
                let running = Running::Server(child);
                wait_for_answer(lab, name);
                running
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Self::Server(child) = self else { return };
        // SIGTERM: NSD's own children end only with a parent that was asked to.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::SIGTERM);
        let _ = child.wait();
    }
}

fn wait_for_answer(lab: &Lab, server: &str) {
    let answered = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            lab.enter_pod();
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
            socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
            socket.connect((SERVER, 53)).expect("the node");
            let query = probe::query(&name(0), 1).expect("a name");
            let (start, mut reply) = (Instant::now(), [0; 512]);
            while start.elapsed() < Duration::from_secs(10) {
                // ANCOUNT: a server that is still loading says SERVFAIL.
                if socket.send(&query).is_ok() && socket.recv(&mut reply).is_ok() && reply[7] == 1 {
                    return true;
                }
            }
            false
        });
        client.join().expect("no panic")
    });
    assert!(answered, "{server} does not answer");
}

/// The zone as a master file.
fn zone_file(scratch: &Path) -> PathBuf {
    let mut text = String::from(
        "$ORIGIN cluster.local.\n$TTL 30\n@ SOA ns hostmaster 1 7200 1800 86400 30\n@ NS ns\nns A 10.77.0.1\n",
    );
    for i in 0..NAMES {
        writeln!(text, "{}. A {}", name(i), address(i)).expect("memory");
    }
    write(scratch, "cluster.local.zone", &text)
}

fn write(scratch: &Path, file: &str, text: &str) -> PathBuf {
    let path = scratch.join(file);
    std::fs::write(&path, text).expect("a scratch file");
    path
}

fn command(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}

fn nsd(scratch: &Path) -> Vec<String> {
    let (zone, dir) = (zone_file(scratch), scratch.display());
    let config = format!(
        "server:\n  ip-address: {SERVER}\n  server-count: 2\n  username: \"\"\n  chroot: \"\"\n  rrl-ratelimit: 0\n  \
         zonesdir: \"{dir}\"\n  pidfile: \"{dir}/nsd.pid\"\n  xfrdfile: \"{dir}/xfrd\"\n  xfrdir: \"{dir}\"\n  \
         zonelistfile: \"{dir}/zones\"\n  database: \"\"\n\
         remote-control:\n  control-enable: no\n\
         zone:\n  name: cluster.local\n  zonefile: \"{}\"\n",
        zone.display()
    );
    let config = write(scratch, "nsd.conf", &config);
    command(&["nsd", "-d", "-c", &config.to_string_lossy()])
}

fn knot(scratch: &Path) -> Vec<String> {
    let dir = scratch.display();
    let config = format!(
        "server:\n  rundir: {dir}\n  listen: {SERVER}@53\n  udp-workers: 2\n\
         database:\n  storage: {dir}\n\
         zone:\n  - domain: cluster.local\n    file: {}\n    zonefile-sync: -1\n    journal-content: none\n",
        zone_file(scratch).display()
    );
    let config = write(scratch, "knot.conf", &config);
    command(&["knotd", "-c", &config.to_string_lossy()])
}

fn dnsmasq(scratch: &Path) -> Vec<String> {
    let mut hosts = String::new();
    for i in 0..NAMES {
        writeln!(hosts, "{} {}", address(i), name(i)).expect("memory");
    }
    let hosts = write(scratch, "hosts", &hosts);
    let mut words = command(&["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"]);
    words.extend(command(&["--bind-interfaces", "--user=root", "--pid-file=", "--local-ttl=30", "--cache-size=10000"]));
    words.push(format!("--listen-address={SERVER}"));
    words.push(format!("--addn-hosts={}", hosts.display()));
    words
}
