//! A fake API server with many objects and no changes. A real one takes an hour to fill.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::Lab;
use crate::objects::{NAMESPACES, Services, namespace, service, slice};

/// The pages of a fake API server. Each is made once, so that making it doesn't count.
pub struct Pages {
    services: Services,
    /// By the target of the request.
    made: Mutex<HashMap<String, Arc<str>>>,
}

impl Pages {
    pub fn new(services: Services) -> Self {
        Self { services, made: Mutex::default() }
    }

    fn get(&self, target: &str) -> Option<Arc<str>> {
        let mut made = self.made.lock().expect("no panic");
        if !made.contains_key(target) {
            made.insert(target.to_owned(), self.make(target)?.into());
        }
        made.get(target).cloned()
    }

    fn make(&self, target: &str) -> Option<String> {
        let (count, item): (usize, fn(usize) -> Value) = match target.split('?').next()?.rsplit('/').next()? {
            "services" => (self.services.count, with_address),
            "endpointslices" => (self.services.count, slice),
            _ => (NAMESPACES, namespace),
        };
        let from: usize = parameter(target, "continue").map_or(0, |c| c.parse().unwrap_or(0));
        let to = count.min(from + parameter(target, "limit").map_or(count, |l| l.parse().unwrap_or(count)));
        let next = if to < count { to.to_string() } else { String::new() };
        let items: Vec<Value> = (from..to).map(item).collect();
        Some(json!({"metadata": {"resourceVersion": "1000000", "continue": next}, "items": items}).to_string())
    }
}

/// Starts a fake API server in a lab on this port. It runs as long as this program.
pub fn start(lab: &Lab, port: u16, pages: &Arc<Pages>) {
    let listener = lab.run_in("host", || TcpListener::bind(("127.0.0.1", port)).expect("a port"));
    let pages = Arc::clone(pages);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let pages = Arc::clone(&pages);
            // The thread ends with the connection.
            std::thread::spawn(move || serve(&stream, &pages));
        }
    });
}

fn serve(stream: &TcpStream, pages: &Pages) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    loop {
        let request = lines.next()?.ok()?;
        lines.by_ref().map_while(Result::ok).find(String::is_empty)?;
        let target = request.split(' ').nth(1)?;
        let mut stream = stream;
        if parameter(target, "watch").is_some() {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).ok()?;
            std::thread::sleep(Duration::from_secs(3600));
            return None;
        }
        let page = pages.get(target)?;
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", page.len());
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(page.as_bytes())).ok()?;
    }
}

/// A query parameter of a request's target.
fn parameter<'a>(target: &'a str, key: &str) -> Option<&'a str> {
    target.split(['?', '&']).find_map(|p| p.strip_prefix(key)?.strip_prefix('='))
}

/// A Service with the fields that the API server adds.
fn with_address(i: usize) -> Value {
    let mut service = service(i);
    service["spec"]["clusterIP"] = json!(format!("10.{}.{}.{}", 96 + (i >> 16), i >> 8 & 255, i & 255));
    service["spec"]["clusterIPs"] = json!([service["spec"]["clusterIP"]]);
    service
}
