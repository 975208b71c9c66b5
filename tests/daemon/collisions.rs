//! Names in a file that were chosen to collide, among others.

use crate::common::collisions;
use crate::lab::{DOMAINS, Lab, SERVER};

const COLLIDING: usize = 12_288;
const INNOCENT: usize = 5_000;

#[test]
fn names_in_a_file_that_were_chosen_to_collide_are_all_answered_like_others() {
    let lab = Lab::new();
    let innocent = (0..INNOCENT).map(|i| format!("host-{i}.example.com"));
    let names: Vec<String> = collisions::names(COLLIDING, "example.net").into_iter().chain(innocent).collect();
    let entry = |(i, name): (usize, &String)| format!("  - Name: {name}\n    IP: 10.9.{}.{}\n", i >> 8, i & 255);
    lab.write("domain.yaml", &(DOMAINS.to_owned() + &names.iter().enumerate().map(entry).collect::<String>()));
    lab.write("queries", &names.iter().map(|name| format!("{name} A\n{name} AAAA\n")).collect::<String>());
    for start in 1..=3 {
        let mut daemon = lab.daemon();
        // No DNS server could reply instead.
        let report = lab.sh("pod", &format!("dnsperf -s {SERVER} -d queries -n 1 -c 8 -q 200 -t 2"));
        let asked = names.len() * 2;
        assert!(report.contains(&format!("NOERROR {asked} (100.00%)")), "start {start}: {report}");
        for i in [0, COLLIDING - 1, COLLIDING, names.len() - 1] {
            let address = format!("10.9.{}.{}", i >> 8, i & 255);
            assert_eq!(lab.dig(&format!("@{SERVER} {} +short", names[i])), address, "{}", names[i]);
        }
        assert_eq!(lab.dig(&format!("@{SERVER} any.apps.example.org +short")), "10.0.0.9");
        let nodata = lab.dig(&format!("@{SERVER} apis.example.org AAAA"));
        assert!(nodata.contains("status: NOERROR") && nodata.contains("SOA"), "{nodata}");
        let log = daemon.log();
        assert!(!log.contains("ERROR") && !log.contains("WARN"), "start {start}: {log}");
        daemon.signal(nix::sys::signal::Signal::SIGTERM);
        daemon.wait();
    }
}
