//! The commands that query a running daemon.

use crate::lab::{Lab, SERVER};

fn out(lab: &Lab, args: &[&str]) -> (Option<i32>, String) {
    let output = lab.edns(args);
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn lookup_shows_what_the_kernel_answers() {
    let lab = Lab::new();
    let _daemon = lab.daemon();
    let (status, text) = out(&lab, &["lookup", "APIS.example.org"]);
    assert_eq!(status, Some(0));
    assert!(text.contains("status: NOERROR") && text.contains("\t30\tIN\tA\t172.16.171.52"), "{text}");
    let (status, text) = out(&lab, &["lookup", "apis.example.org.", "aaaa"]);
    assert_eq!(status, Some(0));
    assert!(text.contains("AUTHORITY SECTION") && text.contains("nobody.invalid"), "{text}");
    for (name, qtype, reason) in [
        ("apis.example.org", "MX", "(pass_qtype: type is left to the server)"),
        ("y.apps.example.org", "A", "pass_name"),
        ("nothing.example.org", "A", "pass_not_found"),
    ] {
        let (status, text) = out(&lab, &["lookup", name, qtype]);
        assert_eq!(status, Some(1), "{text}");
        assert!(text.contains(reason), "{text}");
    }
    assert_eq!(out(&lab, &["lookup", "apis.example.org", "NOTYPE"]).0, Some(2));
    for name in ["", "a..b", "a b.example.org", "\\065.example.org"] {
        assert_eq!(out(&lab, &["lookup", name]).0, Some(2), "{name:?}");
    }
    assert_eq!(out(&lab, &["lookup", "apis.example.org", "TYPE1"]).0, Some(0));
    // A lookup is not counted as a query.
    assert_eq!(lab.count("answered"), 0);
}

#[test]
fn records_shows_what_the_maps_hold() {
    let lab = Lab::new();
    let _daemon = lab.daemon();
    let (status, text) = out(&lab, &["records"]);
    assert_eq!(status, Some(0));
    assert!(text.contains("apis.example.org.\tA\t30 A 172.16.171.52\n"), "{text}");
    assert!(text.contains("*.apps.example.org.\tA\t30 A 10.0.0.9\n"), "{text}");
    assert!(text.contains("y.apps.example.org.\tANY\tpasses to the DNS server\n"), "{text}");
    let (_, json) = out(&lab, &["records", "--json"]);
    let records: serde_json::Value = serde_json::from_str(&json).unwrap();
    let db = records.as_array().unwrap().iter().find(|r| r["name"] == "db.example.org." && r["type"] == "A").unwrap();
    assert_eq!(db["answer"], serde_json::json!(["60 A 10.0.0.5", "60 A 10.0.0.6"]));
}

#[test]
fn stats_counts_by_outcome_and_family() {
    let lab = Lab::new();
    let _daemon = lab.daemon();
    lab.dig(&format!("@{SERVER} apis.example.org"));
    lab.dig("@fd77::1 apis.example.org AAAA");
    lab.dig("@fd77::1 nothing.example.org");
    let (_, json) = out(&lab, &["stats", "--json"]);
    let stats: serde_json::Value = serde_json::from_str(&json).unwrap();
    let count = |outcome: &str, family: &str| {
        let queries = stats["queries"].as_array().unwrap();
        queries.iter().find(|q| q["outcome"] == outcome && q["family"] == family).unwrap()["count"].as_u64().unwrap()
    };
    assert_eq!((count("answered", "ipv4"), count("answered", "ipv6")), (1, 0));
    assert_eq!((count("nodata", "ipv4"), count("nodata", "ipv6")), (0, 1));
    assert_eq!(count("pass_not_found", "ipv6"), 1);
    assert_eq!(stats["records"], 6);
    assert_eq!(stats["attached_interfaces"], serde_json::json!(["veth0"]));
    let (_, text) = out(&lab, &["stats"]);
    assert!(text.contains("pass_not_found") && text.contains("66.7 % of 3 queries answered"), "{text}");
    // In a terminal `stats` continues until it is interrupted.
    let text =
        lab.sh("host", &format!("timeout -s INT 5 {} stats --watch --config config.yaml || true", crate::lab::EDNS));
    assert!(text.matches("per second").count() >= 2, "{text}");
}

#[test]
fn stats_says_why_little_is_answered() {
    let lab = Lab::new();
    lab.write("config.yaml", "Ifname: 'veth*'\nNetworkDirection: Ingress\nMaxRecords: 3\n");
    for n in 1..8 {
        lab.veth(("host", &format!("veth{n}")), ("pod", &format!("eth{n}")));
    }
    let _daemon = lab.daemon();
    let text = out(&lab, &["stats"]).1;
    assert!(text.contains("on 8 interfaces: veth0, veth1, veth2, veth3 and 4 more\n"), "{text}");
    assert!(text.contains("no UDP query to port 53 was seen"), "{text}");
    assert!(
        text.contains("no room for 3 names: they and the names below them pass; raise MaxRecords and restart"),
        "{text}"
    );
    lab.dig(&format!("@{SERVER} nothing.example.org"));
    let text = out(&lab, &["stats"]).1;
    assert!(text.contains("pass_not_found              1  100.0%  name is not known here\n"), "{text}");
    assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
}

#[test]
fn pause_and_resume_are_the_operators_switch() {
    let lab = Lab::new();
    let _daemon = lab.daemon();
    let ask = || lab.dig(&format!("@{SERVER} +short apis.example.org"));
    assert_eq!(ask(), "172.16.171.52");
    assert_eq!(out(&lab, &["pause"]).0, Some(0));
    assert!(ask().contains("no servers"));
    assert_eq!(lab.count("pass_paused"), 1);
    assert!(out(&lab, &["stats"]).1.contains("paused: all queries pass"));
    assert_eq!(out(&lab, &["resume"]).0, Some(0));
    assert_eq!(ask(), "172.16.171.52");
    // A pause ends by itself, but doesn't end a later one.
    assert_eq!(out(&lab, &["pause", "--for", "1s"]).0, Some(0));
    assert_eq!(out(&lab, &["pause", "--for", "4s"]).0, Some(0));
    std::thread::sleep(std::time::Duration::from_millis(1300));
    assert!(ask().contains("no servers"));
    crate::lab::until("the end of the pause", || if ask() == "172.16.171.52" { Ok(()) } else { Err(String::new()) });
    assert_eq!(out(&lab, &["pause", "--for", "soon"]).0, Some(2));
}
