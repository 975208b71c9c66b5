//! Objects come and go while other names are asked for.

use std::sync::atomic::{AtomicBool, Ordering};

use hickory_proto::rr::RecordType::{A, AAAA};

use crate::client::Client;
use crate::cluster::DNS;
use crate::lab::within;
use crate::node::Node;

/// Asks for A and AAAA of these names in turn while something is done. Every query has to get a reply, and no name may be
/// NXDOMAIN.
pub fn never_missing<T>(client: &Client, names: &[String], work: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    let ask = || {
        let mut pairs = 0;
        let mut wrong = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let name = &names[pairs % names.len()];
            for rtype in [A, AAAA] {
                let mut rcode = client.rcode(name, rtype);
                if rcode == "none" {
                    // A machine that is too busy loses some replies, and resolvers ask again.
                    rcode = client.rcode(name, rtype);
                }
                if rcode != "NoError" {
                    wrong.push(format!("{name} {rtype}: {rcode}"));
                }
            }
            pairs += 1;
        }
        (pairs, wrong)
    };
    std::thread::scope(|scope| {
        let asking = scope.spawn(ask);
        // Ends the queries also if the work panics.
        let stopping = Stop(&stop);
        let result = work();
        drop(stopping);
        let (pairs, wrong) = asking.join().unwrap();
        assert!(wrong.is_empty() && pairs > 100, "{pairs} pairs: {wrong:?}");
        result
    })
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn existing_names_are_never_missing_while_others_change() {
    let node = Node::shared();
    let cluster = &node.cluster;
    let _daemon = node.daemon();
    cluster.namespace("churn");
    let service = |name: &str, port: usize, ips: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: churn}}\nspec: {{{ips}ports: [{{port: {port}}}]}}\n---\n"
        )
    };
    let slice = |n: usize, from: usize| {
        let endpoints: Vec<String> =
            (from..from + 20).map(|i| format!("{{addresses: [10.200.{n}.{}]}}", i % 250 + 1)).collect();
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: lives-{n}, namespace: churn, labels: {{kubernetes.io/service-name: lives}}}}\naddressType: IPv4\n\
             endpoints: [{{addresses: [10.199.0.{n}], hostname: stays-{n}}}, {}]\nports: [{{port: 80}}]\n---\n",
            endpoints.join(", ")
        )
    };
    cluster
        .apply(&(service("lives", 80, "clusterIP: None, ") + &service("stays", 80, "") + &slice(0, 0) + &slice(1, 0)));
    let names = ["lives", "stays", "stays-0.lives", "stays-1.lives"].map(|n| format!("{n}.churn.svc.cluster.local"));
    let client = node.pod();
    names.iter().for_each(|name| node.until_rcode(&client, 20, name, "NoError"));
    node.lab.write("queries", &names.iter().map(|n| format!("{n} A\n{n} AAAA\n")).collect::<String>());
    let flood = never_missing(&client, &names, || {
        std::thread::scope(|scope| {
            let flood =
                scope.spawn(|| node.lab.sh("pod", &format!("dnsperf -s {DNS} -d queries -l 8 -c 2 -Q 10000 -t 2")));
            for round in 0.. {
                // The existing objects change, others come, change and go.
                let mut objects = service("stays", 80 + round, "") + &service("lives", 80 + round, "clusterIP: None, ");
                objects += &(slice(0, round * 7) + &slice(1, round * 11));
                objects.extend((0..10).map(|i| service(&format!("other-{i}"), 80 + round, "")));
                cluster.apply(&objects);
                cluster.delete(&["service", "-n", "churn", "other-0", "other-1", "other-2", "other-3", "other-4"]);
                if flood.is_finished() {
                    break;
                }
            }
            flood.join().unwrap()
        })
    });
    cluster.delete(&["namespace", "churn"]);
    assert!(flood.contains("NOERROR") && flood.contains("(100.00%)") && !flood.contains("NXDOMAIN"), "{flood}");
}

#[test]
fn many_endpoints_are_written_once() {
    let node = Node::shared();
    let cluster = &node.cluster;
    let daemon = node.daemon();
    cluster.namespace("many");
    let slices = |third: usize| {
        let slice = |n: usize| {
            let endpoints: Vec<String> = (1..101).map(|i| format!("{{addresses: [10.{third}.{n}.{i}]}}")).collect();
            format!(
                "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
                 metadata: {{name: big-{n}, namespace: many, labels: {{kubernetes.io/service-name: big}}}}\naddressType: IPv4\n\
                 endpoints: [{}]\nports: [{{port: 80}}]\n---\n",
                endpoints.join(", ")
            )
        };
        (0..10).map(slice).collect::<String>()
    };
    cluster.apply("apiVersion: v1\nkind: Service\nmetadata: {name: big, namespace: many}\nspec: {clusterIP: None, ports: [{port: 80}]}\n");
    cluster.apply(&slices(201));
    let client = node.pod();
    let last = |third| format!("10-{third}-9-100.big.many.svc.cluster.local");
    node.until_rcode(&client, 20, &last(201), "NoError");
    let before = daemon.log().len();
    cluster.apply(&slices(202));
    node.until_rcode(&client, 20, &last(202), "NoError");
    node.until_rcode(&client, 20, &last(201), "NXDomain");
    let written = || -> usize {
        let log = &daemon.log()[before..];
        let counts = log.lines().filter_map(|l| l.split("Kubernetes: ").nth(1)?.split(" names changed").next());
        counts.filter_map(|n| n.parse::<usize>().ok()).sum()
    };
    // A thousand endpoints and their reverse names, removed and added. The log line comes a moment after the write.
    within(10, "all names written", || match written() {
        enough if enough >= 4000 => Ok(()),
        written => Err(written.to_string()),
    });
    cluster.delete(&["namespace", "many"]);
    // For each of ten slices the Service and its ports are written, too. Other tests also change objects.
    assert!(written() < 8000, "{} names written", written());
}

#[test]
fn an_alias_follows_its_target() {
    let node = Node::shared();
    let cluster = &node.cluster;
    let _daemon = node.daemon();
    cluster.namespace("follow");
    let client = node.pod();
    let objects = |ip: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: to, namespace: follow}}\nspec: {{type: ExternalName, externalName: app.follow.svc.cluster.local}}\n---\n\
             apiVersion: v1\nkind: Service\nmetadata: {{name: app, namespace: follow}}\nspec: {{clusterIP: None, ports: [{{port: 80}}]}}\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: app-a, namespace: follow, labels: {{kubernetes.io/service-name: app}}}}\n\
             addressType: IPv4\nendpoints: [{{addresses: [{ip}]}}]\nports: [{{port: 80}}]\n"
        )
    };
    for ip in ["10.203.0.1", "10.203.0.2"] {
        cluster.apply(&objects(ip));
        within(20, ip, || {
            let data = client.data("to.follow.svc.cluster.local", A);
            if data == [ip, "app.follow.svc.cluster.local."] { Ok(()) } else { Err(format!("{data:?}")) }
        });
        assert!(node.ask(&client, "to.follow.svc.cluster.local", A).1);
    }
    cluster.delete(&["namespace", "follow"]);
    cluster.delete(&["endpointslice", "app-a", "-n", "follow"]);
    within(20, "the alias has no addresses", || match client.data("to.follow.svc.cluster.local", A) {
        data if data.is_empty() => Ok(()),
        data => Err(format!("{data:?}")),
    });
}
