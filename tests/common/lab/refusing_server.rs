//! A server behind eDNS that refuses every query: a REFUSED reply shows that the query passed.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Lab;

pub const FLAG_QR: u8 = 0x80;
pub const REFUSED: u8 = 5;

/// Refuses queries until it is dropped.
pub struct RefusingServer {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl RefusingServer {
    /// On port 53 of these addresses in a namespace.
    pub fn new(lab: &Lab, ns: &str, addresses: &[&str]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicU64::new(0));
        let serve = |address: &&str| {
            let address = if address.contains(':') { format!("[{address}]:53") } else { format!("{address}:53") };
            let socket = lab.run_in(ns, || UdpSocket::bind(&address)).unwrap_or_else(|e| panic!("{address}: {e}"));
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            thread::spawn(move || {
                let mut message = vec![0; 65_536];
                while !stop.load(Ordering::Relaxed) {
                    let Ok((len, client)) = socket.recv_from(&mut message) else { continue };
                    asked.fetch_add(1, Ordering::Relaxed);
                    if len > 3 {
                        message[2] |= FLAG_QR;
                        message[3] |= REFUSED;
                    }
                    // Fails if the client's interface was removed.
                    let _ = socket.send_to(&message[..len], client);
                }
            })
        };
        let threads = addresses.iter().map(serve).collect();
        Self { stop, asked, threads }
    }

    /// Datagrams that it received.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for RefusingServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}
