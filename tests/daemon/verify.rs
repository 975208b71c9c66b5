//! `edns verify` against NSD, with right and wrong data, on a path where the program answers over UDP.

use crate::lab::{EDNS, Lab, fill, until};

const DNS: &str = "10.77.0.2";
const DNS6: &str = "fd77::2";
/// The records of the lab's domain.yaml.
const RIGHT: &str = include_str!("nsd/same.zone");

/// NSD in `pod`. The daemon's host reaches it by the interface on whose egress the program is.
fn lab(zone: &str) -> Lab {
    let lab = Lab::new();
    lab.write("config.yaml", "Ifname: veth0\nNetworkDirection: Egress\n");
    lab.write("example.org.zone", zone);
    lab.write(
        "nsd.conf",
        &fill(include_str!("nsd/nsd.conf"), &[("ADDRESS", &DNS), ("ADDRESS6", &DNS6), ("DIR", &lab.dir.display())]),
    );
    lab.sh("pod", "nsd -c nsd.conf");
    until("NSD answers", || match lab.dig_in("host", &format!("@{DNS} +tcp +short ns.example.org")) {
        a if a == DNS => Ok(()),
        other => Err(other),
    });
    lab
}

fn verify(lab: &Lab, args: &[&str]) -> (Option<i32>, String) {
    let config = lab.path("config.yaml");
    let output = lab.command("host", EDNS).arg("verify").args(args).arg("--config").arg(config).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn a_server_with_the_same_data_is_no_difference() {
    let lab = lab(RIGHT);
    lab.write("config.yaml", &format!("Ifname: veth0\nNetworkDirection: Egress\nDnsServers: {DNS}\n"));
    let _daemon = lab.daemon();
    // DnsServers names the server.
    let (status, text) = verify(&lab, &[]);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.starts_with(&format!("asking {DNS}:53 over TCP")), "{text}");
    let asked = |text: &str| -> usize {
        let line = text.lines().find_map(|l| l.strip_prefix("no difference in ")).unwrap_or_else(|| panic!("{text}"));
        line.split(' ').next().unwrap().parse().unwrap()
    };
    let all = asked(&text);
    // A and AAAA of four names, one type of one more name, and the wildcard.
    assert!(all >= 9, "{text}");
    let (status, text) = verify(&lab, &["--server", DNS, "--sample", "1"]);
    assert_eq!(status, Some(0), "{text}");
    assert!(asked(&text) < all, "{text}");
    // The lookups in the kernel are not counted, and queries over TCP pass uncounted.
    assert_eq!(lab.count("answered"), 0);
}

#[test]
fn every_difference_is_printed() {
    let wrong = RIGHT
        .replace("172.16.171.52", "172.16.171.53")
        .replace("db A 10.0.0.6\n", "")
        .replace("all A 10.0.0.11\n", "")
        .replace("*.apps A 10.0.0.9", "*.apps A 10.0.0.99");
    let lab = lab(&wrong);
    let _daemon = lab.daemon();
    // The program answers queries to that server.
    assert_eq!(lab.dig_in("host", &format!("@{DNS} +short apis.example.org")), "172.16.171.52");
    let (status, text) = verify(&lab, &["--server", DNS]);
    assert_eq!(status, Some(1), "{text}");
    for lines in [
        "\napis.example.org. A\n  answer: only in the kernel: apis.example.org. a 172.16.171.52\n  \
         answer: only at the server: apis.example.org. a 172.16.171.53\n\n",
        "\ndb.example.org. A\n  answer: only in the kernel: db.example.org. a 10.0.0.6\n\n",
        "\nall.example.org. A\n  rcode: NoError in the kernel, NXDomain at the server\n  answer: only in the kernel: ",
        ".apps.example.org. a 10.0.0.99\n",
    ] {
        assert!(text.contains(lines), "{lines}: {text}");
    }
    assert!(text.contains("\ndifferences at "), "{text}");
    assert!(!text.contains("db.example.org. AAAA"), "{text}");
}

#[test]
fn without_a_server_it_says_what_to_do() {
    let lab = lab(RIGHT);
    let (status, text) = verify(&lab, &["--server", DNS]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("no daemon runs"), "{text}");
    let _daemon = lab.daemon();
    let (status, text) = verify(&lab, &[]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("no DNS server is known") && text.contains("--server"), "{text}");
    let (status, text) = verify(&lab, &["--server", "10.77.0.2:5"]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("refused"), "{text}");
    assert_eq!(verify(&lab, &["--server", "dns.example"]).0, Some(2));
}
