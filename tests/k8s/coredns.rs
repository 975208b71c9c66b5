//! The same questions to eDNS and to CoreDNS, on the same API server.

use std::collections::BTreeSet;

use hickory_proto::rr::RecordType::{self, A, AAAA, CNAME, MX, NS, PTR, SOA, SRV, TXT};

use crate::client::Client;
use crate::cluster::{Cluster, DNS};
use crate::lab::EDNS;

const TYPES: [RecordType; 8] = [A, AAAA, SRV, CNAME, TXT, MX, PTR, SOA];

/// Names that the objects imply, names that they do not, and some spellings.
fn names() -> BTreeSet<String> {
    let services = ["web", "dual", "db", "none", "alias", "alias2", "outside", "dangling", "kubernetes", "missing"];
    let mut names: BTreeSet<String> = BTreeSet::new();
    for service in services {
        let s = format!("{service}.default.svc.cluster.local");
        for below in [
            "",
            "_http._tcp.",
            "http.tcp.",
            "_pg._tcp.",
            "_._tcp.",
            "_tcp.",
            "_dns._udp.",
            "x.",
            "a.b.",
            "a.b.c.",
            "db-0.",
            "db-1.",
            "10-244-0-7.",
            "10-244-0-8.",
            "10-244-1-5.",
            "fd00-244--5.",
            "fd00-244--0.",
            "_pg._tcp.db-0.",
        ] {
            names.insert(format!("{below}{s}"));
        }
    }
    names.extend(
        [
            "cluster.local",
            "svc.cluster.local",
            "pod.cluster.local",
            "default.svc.cluster.local",
            "default.pod.cluster.local",
            "team.svc.cluster.local",
            "nowhere.svc.cluster.local",
            "nowhere.pod.cluster.local",
            "api.team.svc.cluster.local",
            "api.default.svc.cluster.local",
            "_grpc._tcp.api.team.svc.cluster.local",
            "kube-dns.kube-system.svc.cluster.local",
            "x.cluster.local",
            "x.y.z.cluster.local",
            "web.default.cluster.local",
            "10-244-0-5.default.pod.cluster.local",
            "1-2-3-4.nowhere.pod.cluster.local",
            "nonsense.default.pod.cluster.local",
            "dns-version.cluster.local",
            "50.0.96.10.in-addr.arpa",
            "5.0.244.10.in-addr.arpa",
            "7.0.244.10.in-addr.arpa",
            "5.1.244.10.in-addr.arpa",
            "1.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa",
            // As search lists make them.
            "web.default.svc.cluster.local.default.svc.cluster.local",
            "web.svc.cluster.local",
            "www.example.org.cluster.local",
            "www.example.org.svc.cluster.local",
            "www.example.org.default.svc.cluster.local",
            "WeB.DeFaUlT.SvC.cLuStEr.LoCaL",
            "DB-0.db.default.svc.CLUSTER.local",
            "Missing.Default.svc.cluster.local",
        ]
        .map(str::to_owned),
    );
    names
}

#[test]
fn no_answer_differs_from_coredns() {
    let cluster = Cluster::new();
    let lab = &cluster.lab;
    let _daemon = lab.daemon();
    let (ours, theirs) = (Client::new(lab, "pod", DNS), Client::new(lab, "host", DNS));
    let mut differences = Vec::new();
    let mut asked = 0;
    for name in names() {
        for rtype in TYPES.into_iter().chain([NS]) {
            let (our, their) = (ours.ask(&name, rtype), theirs.ask(&name, rtype));
            asked += 1;
            if our != their {
                differences.push(format!("{name} {rtype}\n  edns    {our:?}\n  coredns {their:?}"));
            }
        }
    }
    let answered = ["answered", "nodata", "nxdomain"].iter().map(|o| lab.count(o)).sum::<u64>();
    println!("{asked} questions, {answered} answered in the kernel");
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
    // Else CoreDNS was compared with itself. What passes by design is told below.
    assert!(answered * 2 > asked, "{answered} of {asked}");
}

#[test]
fn verify_finds_the_server_and_no_difference_in_its_zone() {
    let cluster = Cluster::new();
    let lab = &cluster.lab;
    let _daemon = lab.daemon();
    let config = lab.path("config.yaml");
    let output = lab.command("host", EDNS).args(["verify", "--config"]).arg(config).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    println!("{text}");
    assert!(text.starts_with(&format!("asking {DNS}:53 over TCP")), "{text}");
    // Static names are not CoreDNS'.
    assert!(text.contains("\napis.example.org. A\n  rcode: NoError in the kernel, "), "{text}");
    assert_eq!(output.status.code(), Some(1));
    for line in text.lines().filter(|l| !l.starts_with(' ')) {
        assert!(!line.contains("cluster.local.") && !line.contains(".arpa."), "{line}: {text}");
    }
}

#[test]
fn what_clients_ask_is_answered_in_the_kernel() {
    let cluster = Cluster::new();
    let lab = &cluster.lab;
    let _daemon = lab.daemon();
    let client = Client::new(lab, "pod", DNS);
    // What is two or more labels below a Service passes where the Service has no such port; pods' names, aliases to the
    // outside and DNS' own names pass, too.
    let held = ["_http._tcp.web.", "_pg._tcp.db.", "_._tcp.dual.", "_grpc._tcp.api.", "db-0.db."];
    let passes = |name: &str| {
        let below_service = name.strip_suffix(".svc.cluster.local").is_some_and(|n| n.split('.').count() > 3);
        below_service && !held.iter().any(|h| name.starts_with(h))
            || [".pod.", "outside.", "dns."].iter().any(|p| name.contains(p))
            || name.ends_with(".arpa")
    };
    let mut passed = Vec::new();
    for name in names().into_iter().filter(|n| !passes(n)) {
        for rtype in [A, AAAA, SRV, PTR] {
            let before = lab.count("answered") + lab.count("nodata") + lab.count("nxdomain");
            client.ask(&name, rtype);
            if lab.count("answered") + lab.count("nodata") + lab.count("nxdomain") == before {
                passed.push(format!("{name} {rtype}"));
            }
        }
    }
    println!("passed: {passed:#?}");
    assert!(passed.len() <= 4, "{passed:#?}");
}
