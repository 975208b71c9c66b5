//! The connection to the API server is lost, by resets or silently, and restored. The API server itself keeps running.

use std::thread::sleep;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType::{A, AAAA};

use crate::changes::never_missing;
use crate::client::Client;
use crate::lab::{DOMAINS, within};
use crate::node::{CURRENT_WITHIN, Node};

fn service(name: &str, namespace: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{ports: [{{port: 80}}]}}\n---\n"
    )
}

/// Loses the API server by `lose` for more than a minute, and restores the connection.
fn lose_and_regain(namespace: &str, lose: fn(&Node)) {
    let node = Node::shared();
    let cluster = &node.cluster;
    node.configure("MetricsAddr: 127.0.0.1:9153\n");
    let daemon = node.daemon();
    let client = node.pod();
    let [old, born, known] = ["old", "born", "web"].map(|n| format!("{n}.{namespace}.svc.cluster.local"));
    cluster.namespace(namespace);
    cluster.apply(&(service("old", namespace) + &service("web", namespace)));
    [&old, &known].iter().for_each(|name| node.until_rcode(&client, 20, name, "NoError"));
    node.until_negative_answers_are(&client, 20, true);

    for line in ["edns_sync_synced 1", "edns_sync_current 1", "edns_sync_lists_total{kind=\"services\"} 1"] {
        has_metric(&node, line);
    }
    assert!(stats(&node).contains("cluster: synced, view current; last heard: services "));

    let lost = Instant::now();
    lose(&node);
    cluster.delete(&["service", "old", "-n", namespace]);
    cluster.apply(&service("born", namespace));
    node.until_log(&daemon, 40, "retrying until it succeeds");
    within(10, "broken watches are reported", || match stats(&node) {
        text if text.contains("synced, view still current; watch broken: ") => Ok(()),
        text => Err(text),
    });
    has_metric(&node, "edns_sync_broken{kind=\"services\"} 1");
    // Until half a minute after the first failure the view counts as current; then negative answers are CoreDNS'.
    node.until_stale(&client, &daemon);
    has_metric(&node, "edns_sync_current 0");
    assert!(stats(&node).contains("view stale: known names answered"));
    node.until_rcode(&client, 20, &born, "NoError");
    assert!(node.lab.count("pass_stale") > 0);
    // Known names are still answered in the kernel, also a deleted one, because its event didn't arrive.
    [&known, &old].iter().for_each(|name| node.until_answered(&client, name));
    // NODATA is a negative answer, too.
    assert!(!node.ask(&client, &known, AAAA).1);

    // From now on this name is never answered NXDOMAIN.
    never_missing(&node.pod(), std::slice::from_ref(&born), || {
        sleep(Duration::from_secs(65).saturating_sub(lost.elapsed()));
        node.reach_api();
        let took = node.until_negative_answers_are(&client, CURRENT_WITHIN, true);
        println!("{namespace}: current again {took:?} after the way was there");
        node.until_answered(&client, &born);
        node.until_rcode(&client, CURRENT_WITHIN, &old, "NXDomain");
    });
    node.until_log(&daemon, 20, "view current");
    assert!(stats(&node).contains("cluster: synced, view current; last heard: services "));
    has_metric(&node, "edns_sync_broken{kind=\"services\"} 0");
    let page = metrics(&node);
    let count = page.lines().find_map(|l| l.strip_prefix("edns_sync_programming_duration_seconds_count ")).unwrap();
    assert!(count.parse::<f64>().unwrap() >= 3.0, "the lists and changes: {page}");
    cluster.delete(&["namespace", namespace]);
}

#[test]
fn names_pass_after_max_stale_and_are_answered_again_at_once() {
    let node = Node::shared();
    node.lab.write("domain.yaml", DOMAINS);
    node.configure("MaxStale: 5\nMetricsAddr: 127.0.0.1:9153\n");
    let daemon = node.daemon();
    let client = node.pod();
    let known = "web.default.svc.cluster.local";
    node.until_answered(&client, known);
    node.refuse_api();
    node.until_stale(&client, &daemon);
    node.until_log(&daemon, 20, "(MaxStale): all answers of the cluster zone suspended");
    let stale = node.lab.count("pass_stale");
    // Answered by the server.
    let (reply, in_kernel) = node.ask(&client, known, A);
    assert!(reply.rcode == "NoError" && !in_kernel, "{reply:?}");
    assert!(node.lab.count("pass_stale") > stale);
    node.until_address(&client, "apis.example.org", "172.16.171.52");
    assert!(stats(&node).contains("longer than MaxStale: all its names pass"));
    has_metric(&node, "edns_sync_expired 1");

    node.reach_api();
    node.until_log(&daemon, CURRENT_WITHIN, "view current");
    node.until_answered(&client, known);
    has_metric(&node, "edns_sync_expired 0");
}

fn stats(node: &Node) -> String {
    String::from_utf8(node.lab.edns(&["stats"]).stdout).unwrap()
}

fn metrics(node: &Node) -> String {
    node.lab.sh("host", "curl -s http://127.0.0.1:9153/metrics")
}

fn has_metric(node: &Node, line: &str) {
    within(10, line, || {
        let page = metrics(node);
        if page.lines().any(|l| l.starts_with(line)) { Ok(()) } else { Err(page) }
    });
}

#[test]
fn refused_connections_make_the_view_stale_until_they_are_back() {
    lose_and_regain("refused", Node::refuse_api);
}

#[test]
fn silent_connections_make_the_view_stale_until_they_are_back() {
    lose_and_regain("silent", |node| node.drop_api(0));
}

#[test]
fn a_connection_that_is_silent_from_the_middle_of_the_first_list_on() {
    let node = Node::shared();
    let cluster = &node.cluster;
    cluster.namespace("middle");
    cluster.apply(&(0..30).map(|i| service(&format!("s{i}"), "middle")).collect::<String>());
    node.lab.write("domain.yaml", DOMAINS);
    // Three TLS handshakes, and a part of the lists.
    node.drop_api(20_000);
    let daemon = node.spawn();
    node.until_log(&daemon, 60, "retrying until it succeeds");
    let client = node.pod();
    // Static names are answered meanwhile.
    node.until_address(&client, "apis.example.org", "172.16.171.52");
    let before = node.answered();
    for name in ["s0.middle", "s29.middle", "nobody.middle"] {
        client.rcode(&format!("{name}.svc.cluster.local"), A);
    }
    assert_eq!(node.answered(), before, "nothing is answered from incomplete lists");
    assert!(!daemon.log().contains("] ready"), "{}", daemon.log());
    node.reach_api();
    node.until_ready(&daemon);
    for i in 0..30 {
        node.until_answered(&client, &format!("s{i}.middle.svc.cluster.local"));
    }
    node.until_negative_answers_are(&client, CURRENT_WITHIN, true);
    cluster.delete(&["namespace", "middle"]);
}

#[test]
fn an_api_server_that_is_away_at_the_start() {
    let node = Node::shared();
    let statics = "  - {Name: web.default.svc.cluster.local, IP: 10.1.1.1}\n  - {Name: '*.team.svc.cluster.local', IP: 10.1.1.2}\n";
    node.lab.write("domain.yaml", &format!("{DOMAINS}{statics}"));
    node.refuse_api();
    let daemon = node.spawn();
    node.until_log(&daemon, 30, "waiting for the initial sync");
    node.until_log(&daemon, 30, "retrying until it succeeds");
    let client = node.pod();
    // Static names are answered meanwhile.
    node.until_address(&client, "apis.example.org", "172.16.171.52");
    node.until_address(&client, "web.default.svc.cluster.local", "10.1.1.1");
    let before = node.answered();
    let counts = || ["pass_not_synced", "pass_not_found", "pass_server"].map(|outcome| node.lab.count(outcome));
    // The servers of `auto` are unknown before the first sync; names outside of the cluster are known not to be in the file.
    within(20, "queries are counted as not synced", || {
        let [held, unknown, elsewhere] = counts();
        for name in
            ["cluster.local", "nobody.cluster.local", "api.team.svc.cluster.local", "dual.default.svc.cluster.local"]
        {
            client.rcode(name, A);
        }
        client.rcode("nobody.example.org", A);
        let wanted = [held + 4, unknown + 1, elsewhere];
        let now = counts();
        if now == wanted { Ok(()) } else { Err(format!("{now:?}, not {wanted:?}")) }
    });
    assert_eq!(node.answered(), before);
    assert!(!daemon.log().contains("] ready"), "{}", daemon.log());
    node.reach_api();
    node.until_ready(&daemon);
    node.until_answered(&client, "dual.default.svc.cluster.local");
    node.until_negative_answers_are(&client, CURRENT_WITHIN, true);
    node.until_address(&client, "web.default.svc.cluster.local", "10.1.1.1");
    node.until_address(&client, "nobody.team.svc.cluster.local", "10.1.1.2");
    let [held, _, elsewhere] = counts();
    let other = Client::new(&node.lab, "pod", "10.77.0.1");
    within(20, "another server is not in DnsServers", || {
        other.ask("api.team.svc.cluster.local", A);
        let [_, _, now] = counts();
        if now > elsewhere { Ok(()) } else { Err(format!("{now}")) }
    });
    assert_eq!(counts()[0], held);
}
