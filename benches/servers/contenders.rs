//! The contenders: each has an address of its own, and all run all the time with the same names.

use std::fmt::{Display, Write as _};
use std::fs::File;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::{Cluster, DNS};
use crate::lab::{Lab, fill, until};
use crate::mix;
use crate::services::Services;

/// The namespaces of the servers' client and of eDNS' client. They differ only by the program on the host's end of the veth.
const POD: &str = "pod";
const EDNS_POD: &str = "edns-pod";

pub struct Contender {
    pub name: &'static str,
    pub address: &'static str,
    /// The namespace of its client.
    pub client: &'static str,
}

const fn server(name: &'static str, address: &'static str) -> Contender {
    Contender { name, address, client: POD }
}

/// The first is eDNS, which answers what is sent to the second. The address of the third is NodeLocal DNSCache's.
pub const ALL: [Contender; 7] = [
    Contender { name: "eDNS", address: DNS, client: EDNS_POD },
    server("CoreDNS", DNS),
    server("NodeLocal DNSCache", "169.254.20.10"),
    server("NSD", "10.77.1.1"),
    server("Knot DNS", "10.77.1.2"),
    server("Unbound", "10.77.1.3"),
    server("dnsmasq", "10.77.1.4"),
];

/// Ends when it is dropped.
pub struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // The child processes of NSD end only after a SIGTERM to their parent.
        let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// Adds the addresses and a second pod.
pub fn prepare(lab: &mut Lab) {
    for contender in &ALL[2..] {
        lab.ip("host", &format!("addr add {}/32 dev lo", contender.address));
    }
    lab.add(EDNS_POD);
    lab.veth(("host", "veth1"), (EDNS_POD, "eth0"));
    lab.ip("host", "addr add 10.77.2.1/24 dev veth1");
    lab.ip(EDNS_POD, "addr add 10.77.2.2/24 dev eth0");
    lab.ip(EDNS_POD, "route add default via 10.77.2.1");
    lab.write("domain.yaml", "Domains: []\n");
    lab.write("config.yaml", "EnableK8S: true\nKubeConfig: kubeconfig\nIfname: veth1\nNetworkDirection: Ingress\n");
}

/// Starts CoreDNS with the configs of kubeadm and of NodeLocal DNSCache.
pub fn start_coredns(cluster: &Cluster) -> Vec<Server> {
    let [_, _, cache, ..] = &ALL;
    let lab = &cluster.lab;
    lab.write("Corefile", &fill(include_str!("config/Corefile"), &[("DNS", &DNS)]));
    let values: [(&str, &dyn Display); 2] = [("CACHE", &cache.address), ("DNS", &DNS)];
    lab.write("Corefile.cache", &fill(include_str!("config/Corefile.cache"), &values));
    let coredns = std::env::var("EDNS_K8S_TOOLS").expect("EDNS_K8S_TOOLS is set by benches/run.sh") + "/coredns";
    [["-conf", "Corefile"], ["-conf", "Corefile.cache"]].map(|args| start(lab, &coredns, &args)).into()
}

/// Starts the servers of a zone file.
pub fn start_static(lab: &Lab, services: &Services, zone: &str) -> Vec<Server> {
    lab.write("zone", zone);
    let dir = lab.dir.display();
    let [_, _, _, nsd, knot, unbound, dnsmasq] = ALL.map(|c| c.address);
    for (file, template, address) in [
        ("nsd.conf", include_str!("config/nsd.conf"), nsd),
        ("knot.conf", include_str!("config/knot.conf"), knot),
        ("unbound.conf", include_str!("config/unbound.conf"), unbound),
    ] {
        lab.write(file, &fill(template, &[("ADDRESS", &address), ("DIR", &dir)]));
    }
    dnsmasq_files(lab, services, zone);
    vec![
        start(lab, "nsd", &["-d", "-c", "nsd.conf"]),
        start(lab, "knotd", &["-c", "knot.conf"]),
        start(lab, "unbound", &["-d", "-c", "unbound.conf"]),
        start(
            lab,
            "dnsmasq",
            &["--keep-in-foreground", "--conf-file=dnsmasq.conf", &format!("--listen-address={dnsmasq}")],
        ),
    ]
}

/// Writes hosts and the SRV records that are asked for. dnsmasq searches all of them for every unknown name, so others are
/// left out.
fn dnsmasq_files(lab: &Lab, services: &Services, zone: &str) {
    let asked: Vec<String> = mix::srv_names(services).map(|name| name + ".").collect();
    let (mut hosts, mut config) =
        (String::new(), fill(include_str!("config/dnsmasq.conf"), &[("HOSTS", &lab.path("hosts").display())]));
    for line in zone.lines() {
        let [name, _, _, rtype, data @ ..] = &line.split_whitespace().collect::<Vec<_>>()[..] else { continue };
        match (*rtype, data) {
            ("A" | "AAAA", [address]) => writeln!(hosts, "{address} {}", name.trim_end_matches('.')),
            ("SRV", [priority, weight, port, target]) if asked.iter().any(|a| a == name) => {
                writeln!(config, "srv-host={name},{target},{port},{priority},{weight}")
            }
            _ => Ok(()),
        }
        .expect("memory");
    }
    lab.write("hosts", &hosts);
    lab.write("dnsmasq.conf", &config);
}

fn start(lab: &Lab, program: &str, args: &[&str]) -> Server {
    let log = File::create(lab.path(&format!("{}.log", program.rsplit('/').next().expect("a name")))).expect("a file");
    let child = lab
        .command("host", program)
        .args(args)
        .current_dir(&lab.dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file"))
        .stderr(log)
        .spawn();
    Server(child.unwrap_or_else(|e| panic!("{program}: {e}; scripts/setup.sh installs it")))
}

/// Waits until a contender answers this name.
pub fn wait_for(lab: &Lab, contender: &Contender, name: &str) {
    until(&format!("{} answers", contender.name), || {
        let reply = lab.dig_in(contender.client, &format!("@{} {name}", contender.address));
        if reply.contains("status: NOERROR") && reply.contains("ANSWER SECTION") { Ok(()) } else { Err(reply) }
    });
}
