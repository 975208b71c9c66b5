//! Queries of pods on ingress, by common clients. No DNS server runs in these namespaces.

use crate::lab::{Lab, SERVER, SERVER6, compile};

#[test]
fn dig_gets_every_kind_of_answer_over_both_families() {
    let lab = Lab::new();
    let _daemon = lab.daemon();
    for server in [SERVER, SERVER6] {
        let short = |question: &str| lab.dig(&format!("@{server} +short {question}"));
        assert_eq!(short("apis.example.org A"), "172.16.171.52");
        assert_eq!(short("db.example.org AAAA"), "fd00::5");
        let mut both: Vec<String> = short("db.example.org A").lines().map(str::to_owned).collect();
        both.sort();
        assert_eq!(both, ["10.0.0.5", "10.0.0.6"]);
        assert_eq!(short("anything.apps.example.org"), "10.0.0.9");
        assert_eq!(short("x.y.apps.example.org"), "10.0.0.10");
        assert_eq!(short("*.apps.example.org"), "10.0.0.9");

        let nodata = lab.dig(&format!("@{server} apis.example.org AAAA"));
        assert!(nodata.contains("status: NOERROR") && nodata.contains("ANSWER: 0, AUTHORITY: 1"), "{nodata}");
        assert!(nodata.contains("apis.example.org.\t30\tIN\tSOA\tapis.example.org. nobody.invalid."), "{nodata}");
        let other = lab.dig(&format!("@{server} all.example.org MX"));
        assert!(other.contains("status: NOERROR") && other.contains("AUTHORITY: 1"), "{other}");

        for passes in [
            "y.apps.example.org",
            "z.y.apps.example.org",
            // The name of a wildcard exists (RFC 4592 §2.2.1).
            "ghost.*.apps.example.org",
            "a.ghost.*.apps.example.org",
            "apps.example.org",
            "apis.example.org MX",
            "example.org",
        ] {
            let reply = lab.dig(&format!("@{server} {passes}"));
            assert!(reply.contains("no servers could be reached"), "{passes}: {reply}");
        }
    }
    assert_eq!(lab.count("nodata"), 4);
    assert_eq!(lab.count("pass_qtype"), 2);
}

#[test]
fn replies_keep_the_questions_case_flags_and_edns() {
    let lab = Lab::new();
    let _daemon = lab.daemon();
    let reply = lab.dig(&format!("@{SERVER} ApIs.eXaMpLe.OrG +cdflag +dnssec +bufsize=4096"));
    // dig rejects a reply whose question differs from its own in any octet, and prints that.
    assert!(reply.contains("ApIs.eXaMpLe.OrG.\t30\tIN\tA\t172.16.171.52"), "{reply}");
    assert!(reply.contains("flags: qr aa rd cd; QUERY: 1, ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 1"), "{reply}");
    assert!(reply.contains("; EDNS: version: 0, flags: do; udp: 1232"), "{reply}");
    assert!(!reply.to_lowercase().contains("warning: message"), "{reply}");

    let reply = lab.dig(&format!("@{SERVER} apis.example.org +noedns +norecurse"));
    assert!(reply.contains("flags: qr aa; QUERY: 1, ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 0"), "{reply}");
}

#[test]
fn kdig_agrees() {
    let lab = Lab::new();
    let _daemon = lab.daemon();
    for options in ["", "+edns +dnssec", "+edns +padding=128", "+nocookie"] {
        let script = format!("kdig +time=1 +retry=0 @{SERVER6} {options} db.example.org AAAA");
        let reply = lab.sh("pod", &script);
        assert!(reply.contains("status: NOERROR") && reply.contains("fd00::5"), "{options}: {reply}");
        assert!(!reply.contains(";; WARNING") && !reply.contains(";; ERROR"), "{options}: {reply}");
    }
}

#[test]
fn getaddrinfo_of_glibc_and_musl_finds_names_by_the_search_list() {
    let lab = Lab::new();
    let _daemon = lab.daemon();
    lab.write(
        "resolv.conf",
        &format!("nameserver {SERVER}\nsearch example.org\noptions ndots:1 timeout:1 attempts:1\n"),
    );
    for compiler in ["gcc", "musl-gcc"] {
        let program = lab.path(compiler);
        compile(compiler, "getaddrinfo.c", &program);
        let resolve = |name: &str| {
            let script =
                format!("unshare -m sh -ec 'mount --bind resolv.conf /etc/resolv.conf; {} {name}'", program.display());
            let mut lines: Vec<String> = lab.sh("pod", &script).lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        // A and AAAA at once, one of them without records: the resolver neither waits for a time-out nor tries the next
        // suffix.
        assert_eq!(resolve("apis"), ["172.16.171.52"], "{compiler}");
        assert_eq!(resolve("db.example.org"), ["10.0.0.5", "10.0.0.6", "fd00::5"], "{compiler}");
        assert_eq!(resolve("some.apps.example.org"), ["10.0.0.9"], "{compiler}");
    }
    assert!(lab.count("nodata") >= 4, "AAAA of the names that have only A");
}

#[test]
fn dnsperf_loses_nothing() {
    let lab = Lab::new();
    let _daemon = lab.daemon();
    lab.write("queries", "apis.example.org A\ndb.example.org AAAA\nq.apps.example.org A\ndb.example.org A\n");
    for server in [SERVER, SERVER6] {
        let report = lab.sh("pod", &format!("dnsperf -s {server} -d queries -n 5000 -c 4 -q 50 -e"));
        assert!(report.contains("Queries completed:    20000 (100.00%)"), "{report}");
        assert!(report.contains("NOERROR 20000 (100.00%)"), "{report}");
    }
    assert!(lab.count("answered") >= 40000);
}

#[test]
fn several_addresses_take_turns() {
    let lab = Lab::new();
    let _daemon = lab.daemon();
    let firsts: std::collections::HashSet<String> = (0..64)
        .filter_map(|_| lab.dig(&format!("@{SERVER} +short db.example.org")).lines().next().map(str::to_owned))
        .collect();
    assert_eq!(firsts.len(), 2, "{firsts:?}");
}

#[test]
fn a_bridge_port_answers_too() {
    let mut lab = Lab::new();
    // There is no server behind it.
    lab.bridge();
    let _daemon = lab.daemon();
    for server in [SERVER, SERVER6] {
        assert_eq!(lab.dig(&format!("@{server} +short +tries=3 apis.example.org")), "172.16.171.52");
    }
}
