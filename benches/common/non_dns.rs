//! Packets from a pod to its node other than DNS. The calling thread is in the network namespace of the node.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// Sends segments of 64 octets on one connection to this address of the node. Returns segments a second. `enter_pod` moves
/// its thread into the pod's namespace.
pub fn tcp(node: &str, enter_pod: impl Fn() + Sync, time: Duration) -> f64 {
    let listener = TcpListener::bind((node, 9000)).expect("a port");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("the pod");
            std::io::copy(&mut stream, &mut std::io::sink()).expect("the pod");
        });
        let client = scope.spawn(|| {
            enter_pod();
            let mut stream = TcpStream::connect((node, 9000)).expect("the node");
            stream.set_nodelay(true).expect("TCP");
            send(time, || stream.write_all(&[1; 64]).expect("the node"))
        });
        client.join().expect("no panic")
    })
}

/// Sends datagrams of 64 octets to a port that is not DNS'. Returns datagrams a second.
pub fn udp(node: &str, enter_pod: impl Fn() + Sync, time: Duration) -> f64 {
    let _sink = UdpSocket::bind((node, 9000)).expect("a port");
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            enter_pod();
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
            socket.connect((node, 9000)).expect("the node");
            send(time, || assert_eq!(socket.send(&[1; 64]).expect("the node"), 64))
        });
        client.join().expect("no panic")
    })
}

/// Repeats `once` for this time. Returns repetitions a second.
fn send(time: Duration, mut once: impl FnMut()) -> f64 {
    let (start, mut sent) = (Instant::now(), 0_u64);
    while start.elapsed() < time {
        once();
        sent += 1;
    }
    sent as f64 / start.elapsed().as_secs_f64()
}
