//! Checksums of replies as tcpdump sees them. tests/offload.rs checks what sockets see, with every setting of the offloads.

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::{Lab, SERVER, SERVER6, until};

/// Answers of odd and even length, with and without an OPT record after them, at odd and even offsets.
const QUESTIONS: [&str; 8] = [
    "apis.example.org A",
    "apis.example.org A +noedns",
    "pis.example.org A",
    "pis.example.org A +noedns",
    "apis.example.org AAAA +dnssec",
    "pis.example.org AAAA +noedns",
    "db.example.org A +cookie=0123456789abcdef",
    "db.example.org AAAA",
];

fn lab() -> Lab {
    let lab = Lab::new();
    let more = "  - Name: pis.example.org\n    IP: 10.0.0.77\n";
    lab.write("domain.yaml", &format!("{}{more}", crate::lab::DOMAINS));
    lab
}

#[test]
fn with_all_offloads_off_no_checksum_is_bad() {
    let lab = lab();
    let _daemon = lab.daemon();
    lab.sh("pod", "ethtool -K eth0 tx off rx off gso off gro off");
    lab.sh("host", "ethtool -K veth0 tx off rx off gso off gro off");
    let capture = lab.path("replies");
    let mut tcpdump = lab
        .command("pod", "tcpdump")
        .args(["-lnvvi", "eth0", "udp", "port", "53"])
        .stdout(std::fs::File::create(&capture).unwrap())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = || std::fs::read_to_string(&capture).unwrap();
    until("tcpdump captures", || {
        lab.dig(&format!("@{SERVER} apis.example.org"));
        if text().is_empty() { Err(String::new()) } else { Ok(()) }
    });
    let before = text().matches("udp sum ok").count();
    for server in [SERVER, SERVER6] {
        for question in QUESTIONS {
            let reply = lab.dig(&format!("@{server} {question}"));
            assert!(reply.contains("status: NOERROR"), "{question}: {reply}");
        }
    }
    // Queries and replies, without those that showed that tcpdump captures.
    let sums = |text: &str| text.matches("udp sum ok").count();
    let all = before + 4 * QUESTIONS.len();
    until("tcpdump shows all", || if sums(&text()) >= all { Ok(()) } else { Err(text()) });
    kill(Pid::from_raw(tcpdump.id() as i32), Signal::SIGTERM).unwrap();
    tcpdump.wait().unwrap();
    // In brackets, because a random cookie may contain "bad".
    assert!(!text().contains("[bad "), "{}", text());
}
