//! The way to the API server lost, by refusal or in silence, and regained; the API server itself goes on.

use std::thread::sleep;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType::{A, AAAA};

use crate::changes::never_missing;
use crate::lab::DOMAINS;
use crate::node::Node;

/// As a test needs it that runs beside others; the promise is ten.
const CURRENT_WITHIN: u64 = 20;

fn service(name: &str, namespace: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{ports: [{{port: 80}}]}}\n---\n"
    )
}

/// Loses the API server by `lose` for more than a minute, and regains it.
fn lose_and_regain(namespace: &str, lose: fn(&Node)) {
    let node = Node::shared();
    let cluster = &node.cluster;
    let daemon = node.daemon();
    let client = node.pod();
    let [old, born, known] = ["old", "born", "web"].map(|n| format!("{n}.{namespace}.svc.cluster.local"));
    cluster.namespace(namespace);
    cluster.apply(&(service("old", namespace) + &service("web", namespace)));
    [&old, &known].iter().for_each(|name| node.until_rcode(&client, 20, name, "NoError"));
    assert!(node.until_absence_is(&client, 1, true) < Duration::from_secs(1));

    let lost = Instant::now();
    lose(&node);
    cluster.delete(&["service", "old", "-n", namespace]);
    cluster.apply(&service("born", namespace));
    node.says(&daemon, 40, "tried again until it works");
    // Until half a minute after the first failure the view counts as current; then CoreDNS is asked.
    node.until_absence_is(&client, 60, false);
    node.says(&daemon, 1, "out of touch");
    assert_eq!(client.rcode(&born, A), "NoError");
    assert!(node.lab.count("pass_stale") > 0);
    assert_eq!(node.ask(&client, &known, A).1, true, "what is known is still answered in the kernel");
    assert_eq!(node.ask(&client, &old, A).1, true, "also what is no more: nobody told");
    // NODATA says that something is absent, too.
    assert_eq!(node.ask(&client, &known, AAAA).1, false);

    // From here on it is never said not to exist.
    never_missing(&node.pod(), std::slice::from_ref(&born), || {
        sleep(Duration::from_secs(65).saturating_sub(lost.elapsed()));
        node.reach_api();
        let took = node.until_absence_is(&client, CURRENT_WITHIN, true);
        println!("{namespace}: current again {took:?} after the way was there");
        assert!(node.ask(&client, &born, A).1);
        node.until_rcode(&client, CURRENT_WITHIN, &old, "NXDomain");
    });
    node.says(&daemon, 5, "the view is current");
    cluster.delete(&["namespace", namespace]);
}

#[test]
fn refused() {
    lose_and_regain("refused", Node::refuse_api);
}

#[test]
fn silent() {
    lose_and_regain("silent", |node| node.drop_api(0));
}

#[test]
fn silent_from_the_middle_of_the_first_list_on() {
    let node = Node::shared();
    let cluster = &node.cluster;
    cluster.namespace("middle");
    cluster.apply(&(0..30).map(|i| service(&format!("s{i}"), "middle")).collect::<String>());
    node.lab.write("domain.yaml", DOMAINS);
    // Three handshakes, and some of the lists.
    node.drop_api(20_000);
    let daemon = node.spawn();
    node.says(&daemon, 60, "tried again until it works");
    let client = node.pod();
    assert_eq!(client.data("apis.example.org", A), ["172.16.171.52"], "static names are answered meanwhile");
    let before = node.answered();
    for name in ["s0.middle", "s29.middle", "nobody.middle"] {
        client.rcode(&format!("{name}.svc.cluster.local"), A);
    }
    assert_eq!(node.answered(), before, "nothing is answered from half of the lists");
    assert!(!daemon.log().contains("] ready"), "{}", daemon.log());
    node.reach_api();
    node.ready(&daemon);
    for i in 0..30 {
        let (reply, in_kernel) = node.ask(&client, &format!("s{i}.middle.svc.cluster.local"), A);
        assert!(in_kernel && reply.rcode == "NoError", "s{i}");
    }
    assert!(node.ask(&client, "nobody.middle.svc.cluster.local", A).1);
    cluster.delete(&["namespace", "middle"]);
}

#[test]
fn not_there_at_start() {
    let node = Node::shared();
    node.lab.write("domain.yaml", &format!("{DOMAINS}  - Name: web.default.svc.cluster.local\n    IP: 10.1.1.1\n"));
    node.refuse_api();
    let daemon = node.spawn();
    node.says(&daemon, 20, "waiting for the first list");
    node.says(&daemon, 20, "tried again until it works");
    let client = node.pod();
    assert_eq!(client.data("apis.example.org", A), ["172.16.171.52"]);
    assert_eq!(client.data("web.default.svc.cluster.local", A), ["10.1.1.1"]);
    let before = node.answered();
    client.rcode("dual.default.svc.cluster.local", A);
    client.rcode("nobody.default.svc.cluster.local", A);
    assert_eq!(node.answered(), before);
    assert!(!daemon.log().contains("] ready"), "{}", daemon.log());
    node.reach_api();
    node.ready(&daemon);
    assert!(node.ask(&client, "dual.default.svc.cluster.local", A).1);
    assert!(node.ask(&client, "nobody.default.svc.cluster.local", A).1);
    assert_eq!(client.data("web.default.svc.cluster.local", A), ["10.1.1.1"], "a static name wins over the cluster's");
}
