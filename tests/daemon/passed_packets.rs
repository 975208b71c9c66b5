//! Packets that are not answered reach a real server unchanged.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::{Lab, SERVER, SERVER6, fill, until};

/// The pod, and NSD in `far` behind a bridge, which changes no octet of a frame: the server's interface has to receive
/// exactly what the pod's sent. The daemon is on the pod's bridge port.
fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.bridge();
    // Otherwise netfilter reassembles fragments on their way.
    lab.sh("host", "for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $f ] || echo 0 >$f; done");
    let many: String = (0..60).map(|i| format!("many A 10.8.0.{i}\n")).collect();
    lab.write("example.org.zone", &(include_str!("nsd/real.zone").to_owned() + &many));
    lab.write(
        "nsd.conf",
        &fill(
            include_str!("nsd/nsd.conf"),
            &[("ADDRESS", &SERVER), ("ADDRESS6", &SERVER6), ("DIR", &lab.dir.display())],
        ),
    );
    lab.sh("far", "nsd -c nsd.conf");
    until("NSD answers", || match lab.dig_in("far", &format!("@{SERVER} +short real.example.org")) {
        a if a == "10.9.9.9" => Ok(()),
        other => Err(other),
    });
    lab
}

/// The frames of a capture, without times.
fn frames(pcap: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    let mut rest = &pcap[24..];
    while rest.len() >= 16 {
        let len = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        frames.push(&rest[16..16 + len]);
        rest = &rest[16 + len..];
    }
    frames
}

#[test]
fn packets_that_pass_arrive_unchanged() {
    let lab = lab();
    let _daemon = lab.daemon();
    // Captures what comes from the pod, on its own interface and on the server's.
    let capture = |ns: &str| {
        let mac = lab.sh("pod", "ip -o link show eth0 | sed 's/.*ether //; s/ .*//'");
        let filter = format!("ether src {} and (port 53 or ip[6:2] & 0x3fff != 0 or ip6[6] == 44)", mac.trim());
        let child = lab
            .command(ns, "tcpdump")
            .args(["-i", "eth0", "-U", "--immediate-mode", "-p", "-s0", "-w"])
            .arg(lab.path(&format!("{ns}.pcap")))
            .arg(filter)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        until("tcpdump captures", || {
            std::fs::metadata(lab.path(&format!("{ns}.pcap")))
                .ok()
                .filter(|m| m.len() >= 24)
                .map(|_| ())
                .ok_or_else(String::new)
        });
        child
    };
    let mut captures = [capture("pod"), capture("far")];

    let mut answers = String::new();
    for server in [SERVER, SERVER6] {
        for question in [
            "real.example.org A",
            "real.example.org AAAA +dnssec +bufsize=4096",
            "apis.example.org MX",
            "nothing.example.org TXT +noedns",
            "apis.example.org A +tcp",
            "example.org AXFR +tcp",
            "apis.example.org ANY",
            "apis.example.org A +edns=1 +noednsnegotiation",
            "apis.example.org CH",
            "apis.example.org A +opcode=NOTIFY",
            "apis.example.org -c CH -t TXT",
        ] {
            answers += &lab.dig(&format!("@{server} {question}"));
        }
        // Datagrams with no complete DNS header, and datagrams larger than a packet.
        lab.sh("pod", &format!("python3 -c \"import socket; s=socket.socket(socket.AF_INET6 if ':' in '{server}' else socket.AF_INET, socket.SOCK_DGRAM); [s.sendto(bytes(n), ('{server}', 53)) for n in (0, 1, 11, 12, 100, 3000, 8000)]\""));
    }
    assert!(
        answers.contains("10.9.9.9") && answers.contains("from nsd") && !answers.contains("172.16.171.52"),
        "{answers}"
    );
    // The last query shows that the captures are complete.
    lab.dig(&format!("@{SERVER} last.example.org +noedns"));
    let pcap = |ns: &str| std::fs::read(lab.path(&format!("{ns}.pcap"))).unwrap();
    for ns in ["pod", "far"] {
        let has_last = |pcap: &[u8]| pcap.windows(5).any(|w| w == b"\x04last");
        until("the captures are complete", || if has_last(&pcap(ns)) { Ok(()) } else { Err(ns.to_owned()) });
    }
    for child in &mut captures {
        kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
        child.wait().unwrap();
    }
    let [sent, received] = ["pod", "far"].map(pcap);
    let (mut sent, mut received) = (frames(&sent), frames(&received));
    assert!(sent.len() > 60, "{} frames", sent.len());
    // The captures have the same order, except that a bridge may swap the first packets of different sockets.
    sent.sort_unstable();
    received.sort_unstable();
    assert_eq!(sent.len(), received.len());
    assert!(sent == received, "frames differ");
    assert_eq!(lab.count("answered") + lab.count("nodata"), 0);
}

#[test]
fn answers_too_large_for_the_client_or_the_link_are_left_to_the_server() {
    let lab = lab();
    let many: String = (0..60).map(|i| format!("10.8.0.{i}, ")).collect();
    lab.write(
        "domain.yaml",
        &format!("Domains:\n  - Name: many.example.org\n    IP: [{}]\n", many.trim_end_matches(", ")),
    );
    let _daemon = lab.daemon();
    // 60 records take 1,006 octets.
    assert_eq!(lab.dig(&format!("@{SERVER} +short many.example.org")).lines().count(), 60);
    assert_eq!(lab.count("answered"), 1);
    // Up to 512 octets: NSD's truncated reply, then TCP.
    assert_eq!(lab.dig(&format!("@{SERVER} +short +noedns many.example.org")).lines().count(), 60);
    assert_eq!(lab.count("answered"), 1);
    assert_eq!(lab.count("pass_too_large"), 1);
    for (ns, dev) in [("host", "veth0"), ("pod", "eth0")] {
        lab.ip(ns, &format!("link set {dev} mtu 700"));
    }
    let reply = lab.dig(&format!("@{SERVER} many.example.org +bufsize=1232 +ignore"));
    assert!(reply.contains("many.example.org"), "the server's own reply, fragmented or truncated: {reply}");
    assert_eq!(lab.count("pass_too_large"), 2);
}

#[test]
fn names_that_a_cluster_may_have_pass_until_it_is_read() {
    let lab = Lab::new();
    lab.write(
        "domain.yaml",
        "Domains:\n  - {Name: '*.default.svc.cluster.local', IP: 10.1.1.1}\n  - {Name: '*.apps.cluster.local', IP: 10.1.1.2}\n  \
         - {Name: web.default.svc.cluster.local, IP: 10.1.1.3}\n  - {Name: '*.apps.example.org', IP: 10.1.1.4}\n",
    );
    lab.configure("Ifname: veth0\nNetworkDirection: Ingress\n");
    let daemon = lab.daemon();
    let ask = |question: &str| lab.dig(&format!("@{SERVER} +short {question}"));
    let wildcards = ["new.default.svc.cluster.local", "x.new.default.svc.cluster.local", "a.apps.cluster.local"];
    // Without a cluster these are names like any others.
    for wildcard in wildcards {
        assert!(ask(wildcard).starts_with("10.1.1."), "{wildcard}");
    }
    drop(daemon);
    lab.dead_cluster();
    lab.configure("EnableK8S: true\nKubeConfig: kubeconfig\nIfname: veth0\nNetworkDirection: Ingress\n");
    let daemon = lab.spawn("host", "config.yaml");
    daemon.wait_for("waiting for the initial sync");
    assert_eq!(ask("web.default.svc.cluster.local"), "10.1.1.3");
    assert_eq!(ask("a.apps.example.org"), "10.1.1.4");
    for wildcard in wildcards {
        for qtype in ["A", "AAAA"] {
            let reply = lab.dig(&format!("@{SERVER} {wildcard} {qtype}"));
            assert!(reply.contains("no servers could be reached"), "{reply}");
        }
    }
    assert_eq!(lab.count("pass_not_synced"), 6);
    assert_eq!([lab.count("answered"), lab.count("nodata")], [2, 0]);
}
