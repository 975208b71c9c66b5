//! Somebody who speaks as an API server with very many objects, in which nothing changes: a real one takes an hour to fill.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};

use crate::lab::Lab;
use crate::objects::{NAMESPACES, World, namespace, service, slice};

/// A lab with such a server, and a config for it.
pub fn lab(world: World) -> Lab {
    let lab = Lab::new();
    let netns = File::open(format!("/run/netns/{}", lab.ns("host"))).expect("the namespace");
    let listen = || {
        setns(&netns, CloneFlags::CLONE_NEWNET).expect("root");
        TcpListener::bind("127.0.0.1:8080").expect("a port")
    };
    let listener = std::thread::scope(|scope| scope.spawn(listen).join().expect("no panic"));
    let world = Arc::new(world);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let world = Arc::clone(&world);
            // Ends with the connection.
            std::thread::spawn(move || serve(&stream, &world));
        }
    });
    lab.write("domain.yaml", "Domains: []\n");
    lab.write(
        "kubeconfig",
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: 'http://127.0.0.1:8080'}}]\n\
         users: [{name: c, user: {}}]\ncontexts: [{name: c, context: {cluster: c, user: c}}]\n",
    );
    lab.write(
        "config.yaml",
        "EnableK8S: true\nKubeConfig: kubeconfig\nIfname: veth0\nNetworkDirection: Ingress\nMaxRecords: 1048576\n",
    );
    lab
}

fn serve(stream: &TcpStream, world: &World) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    loop {
        let request = lines.next()?.ok()?;
        lines.by_ref().map_while(Result::ok).find(String::is_empty)?;
        let target = request.split(' ').nth(1)?;
        let query = |key: &str| target.split(['?', '&']).find_map(|p| p.strip_prefix(key)?.strip_prefix('='));
        if query("watch").is_some() {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
            let mut stream = stream;
            stream.write_all(head.as_bytes()).ok()?;
            std::thread::sleep(Duration::from_secs(3600));
            return None;
        }
        let (count, item): (usize, fn(usize) -> Value) = match target.split('?').next()?.rsplit('/').next()? {
            "services" => (world.services, with_address),
            "endpointslices" => (world.services, slice),
            _ => (NAMESPACES, namespace),
        };
        let from: usize = query("continue").map_or(0, |c| c.parse().unwrap_or(0));
        let to = count.min(from + query("limit").map_or(count, |l| l.parse().unwrap_or(count)));
        let next = if to < count { to.to_string() } else { String::new() };
        let items: Vec<Value> = (from..to).map(item).collect();
        let page = json!({"metadata": {"resourceVersion": "1000000", "continue": next}, "items": items}).to_string();
        let mut stream = stream;
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{page}",
            page.len()
        )
        .ok()?;
    }
}

/// A Service, as the API server completes it.
fn with_address(i: usize) -> Value {
    let mut service = service(i);
    service["spec"]["clusterIP"] = json!(format!("10.{}.{}.{}", 96 + (i >> 16), i >> 8 & 255, i & 255));
    service["spec"]["clusterIPs"] = json!([service["spec"]["clusterIP"]]);
    service
}
