//! Traffic from the pod: dnsperf with names drawn at random, and packets that are no DNS.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::lab::{Lab, SERVER};
use crate::programs::name;

/// As many questions as there are names, at least 100,000, in random order.
pub fn query_file(dir: &Path, names: usize) -> PathBuf {
    let mut text = String::new();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..names.max(100_000) {
        // xorshift64: repeatable, and good enough to leave no order that a cache could use.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        writeln!(text, "{} A", name(state as usize % names)).expect("memory");
    }
    let file = dir.join(format!("{names}.txt"));
    std::fs::write(&file, text).expect("the queries");
    file
}

/// As many queries as the client can: answers a second.
pub fn dnsperf(lab: &Lab, queries: &Path, time: Duration) -> f64 {
    report(lab, queries, time, &[], "Queries per second:")
}

/// So many queries a second: the mean time to an answer, in microseconds.
pub fn latency(lab: &Lab, queries: &Path, time: Duration, rate: u32) -> f64 {
    report(lab, queries, time, &["-Q", &rate.to_string()], "Average Latency (s):") * 1e6
}

/// A figure of dnsperf's report.
fn report(lab: &Lab, queries: &Path, time: Duration, args: &[&str], key: &str) -> f64 {
    let output = lab
        .pod_command("dnsperf")
        .args(["-s", SERVER, "-c8", "-q200", "-l", &time.as_secs().max(1).to_string()])
        .args(args)
        .arg("-d")
        .arg(queries)
        .stderr(Stdio::null())
        .output()
        .expect("dnsperf");
    let text = String::from_utf8_lossy(&output.stdout);
    let field = text.lines().find_map(|l| l.trim().strip_prefix(key)).map(str::trim);
    let figure = field.and_then(|f| f.split(' ').next()?.parse().ok());
    figure.filter(|n| *n > 0.0).unwrap_or_else(|| panic!("dnsperf got no answers: {text}"))
}

/// Segments of 64 octets on one connection: segments a second.
pub fn tcp(lab: &Lab, time: Duration) -> f64 {
    let listener = TcpListener::bind((SERVER, 9000)).expect("a port");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("the pod");
            std::io::copy(&mut stream, &mut std::io::sink()).expect("the pod");
        });
        let client = scope.spawn(|| {
            lab.enter_pod();
            let mut stream = TcpStream::connect((SERVER, 9000)).expect("the node");
            stream.set_nodelay(true).expect("TCP");
            send(time, || stream.write_all(&[1; 64]).expect("the node"))
        });
        client.join().expect("no panic")
    })
}

/// Datagrams of 64 octets to a port that is not DNS: datagrams a second.
pub fn udp(lab: &Lab, time: Duration) -> f64 {
    let _sink = UdpSocket::bind((SERVER, 9000)).expect("a port");
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            lab.enter_pod();
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
            socket.connect((SERVER, 9000)).expect("the node");
            send(time, || assert_eq!(socket.send(&[1; 64]).expect("the node"), 64))
        });
        client.join().expect("no panic")
    })
}

/// Sends as often as it can: times a second.
fn send(time: Duration, mut once: impl FnMut()) -> f64 {
    let (start, mut sent) = (Instant::now(), 0_u64);
    while start.elapsed() < time {
        once();
        sent += 1;
    }
    sent as f64 / start.elapsed().as_secs_f64()
}
