//! What stands behind eDNS in place of a DNS server: it refuses, so that whoever asks sees what passed.

use std::fs::File;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use crate::cluster::DNS;
use crate::lab::Lab;

/// Ends when it is dropped.
pub struct Behind {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Behind {
    pub fn new(lab: &Lab) -> Self {
        let netns = File::open(format!("/run/netns/{}", lab.ns("host"))).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&over);
        let thread = thread::spawn(move || {
            setns(&netns, CloneFlags::CLONE_NEWNET).unwrap();
            let socket = UdpSocket::bind((DNS, 53)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let mut message = [0; 512];
            while !end.load(Ordering::Relaxed) {
                let Ok((len, from)) = socket.recv_from(&mut message) else { continue };
                // QR, and REFUSED.
                message[2] |= 0x80;
                message[3] = 5;
                let _ = socket.send_to(&message[..len], from);
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
