//! The API server away, back, and not there yet.

use std::time::{Duration, Instant};

use crate::cluster::{Cluster, DNS};
use crate::lab::{DOMAINS, until};

fn status(cluster: &Cluster, name: &str) -> String {
    let reply = cluster.lab.dig(&format!("@{DNS} {name}"));
    reply.split("status: ").nth(1).and_then(|r| r.split(',').next()).unwrap_or("none").to_owned()
}

#[test]
fn answers_go_on_without_the_api_server_but_absence_is_believed_for_a_while_only() {
    let cluster = Cluster::new();
    let config = "EnableK8S: true\nKubeConfig: kubeconfig\nIfname: veth0\nNetworkDirection: Ingress\n";
    cluster.lab.write("config.yaml", &format!("{config}MetricsAddr: 127.0.0.1:9153\n"));
    let daemon = cluster.lab.daemon();
    assert_eq!(status(&cluster, "nope.default.svc.cluster.local"), "NXDOMAIN");
    let metric = |cluster: &Cluster, line: &str| {
        let page = cluster.lab.sh("host", "curl -s http://127.0.0.1:9153/metrics");
        assert!(page.lines().any(|l| l.starts_with(line)), "{line}: {page}");
    };
    let stats = |cluster: &Cluster| String::from_utf8(cluster.lab.edns(&["stats"]).stdout).unwrap();
    for line in ["edns_sync_synced 1", "edns_sync_current 1", "edns_sync_lists_total{kind=\"services\"} 1"] {
        metric(&cluster, line);
    }
    assert!(stats(&cluster).contains("cluster: read whole and current; last word of services "));
    cluster.kill_api();
    daemon.wait_for("tried again until it works");
    until("broken watches are told", || match stats(&cluster) {
        text if text.contains("current; no contact: services for ") => Ok(()),
        text => Err(text),
    });
    metric(&cluster, "edns_sync_broken{kind=\"services\"} 1");
    assert_eq!(status(&cluster, "web.default.svc.cluster.local"), "NOERROR");
    // For half a minute the view counts as current.
    let stale = cluster.lab.count("pass_stale");
    let deadline = Instant::now() + Duration::from_secs(45);
    while cluster.lab.count("pass_stale") == stale {
        assert!(Instant::now() < deadline, "absence is still answered");
        status(&cluster, "nope.default.svc.cluster.local");
        std::thread::sleep(Duration::from_millis(500));
    }
    metric(&cluster, "edns_sync_current 0");
    assert!(stats(&cluster).contains("not current: known names are answered as they were"));
    let answered = cluster.lab.count("answered");
    assert_eq!(status(&cluster, "web.default.svc.cluster.local"), "NOERROR");
    assert_eq!(cluster.lab.count("answered"), answered + 1, "what is known is still answered in the kernel");

    cluster.start_api();
    let back = Instant::now();
    until("absence is answered again", || {
        let before = cluster.lab.count("nxdomain");
        status(&cluster, "nope.default.svc.cluster.local");
        if cluster.lab.count("nxdomain") > before { Ok(()) } else { Err(daemon.log()) }
    });
    until("nothing is broken any more", || match stats(&cluster) {
        text if text.contains("cluster: read whole and current; last word of services ") => Ok(()),
        text => Err(text),
    });
    metric(&cluster, "edns_sync_broken{kind=\"services\"} 0");
    println!("current again {:?} after the API server was", back.elapsed());
    cluster.delete(&["service", "web"]);
    until("a change after it", || match status(&cluster, "web.default.svc.cluster.local").as_str() {
        "NXDOMAIN" => Ok(()),
        other => Err(other.to_owned()),
    });
    let page = cluster.lab.sh("host", "curl -s http://127.0.0.1:9153/metrics");
    let count = page.lines().find_map(|l| l.strip_prefix("edns_sync_programming_duration_seconds_count ")).unwrap();
    assert!(count.parse::<f64>().unwrap() >= 2.0, "the list and the change: {page}");
}

#[test]
fn static_names_are_answered_before_the_api_server_is_there() {
    let cluster = Cluster::new();
    cluster.lab.write("domain.yaml", &format!("{DOMAINS}  - Name: web.default.svc.cluster.local\n    IP: 10.1.1.1\n"));
    cluster.kill_api();
    let daemon = cluster.lab.spawn("host", "config.yaml");
    daemon.wait_for("waiting for the first list");
    let short = |name: &str| cluster.lab.dig(&format!("@{DNS} +short {name}"));
    assert_eq!(short("apis.example.org"), "172.16.171.52");
    assert_eq!(short("web.default.svc.cluster.local"), "10.1.1.1");
    assert!(!daemon.log().contains("ready"), "{}", daemon.log());
    let answered = cluster.lab.count("answered") + cluster.lab.count("nxdomain");
    status(&cluster, "dual.default.svc.cluster.local");
    status(&cluster, "nope.default.svc.cluster.local");
    assert_eq!(cluster.lab.count("answered") + cluster.lab.count("nxdomain"), answered);
    cluster.start_api();
    daemon.wait_for("ready");
    assert_eq!(cluster.lab.dig(&format!("@{DNS} +short dual.default.svc.cluster.local")), "10.96.0.51");
    assert_eq!(status(&cluster, "nope.default.svc.cluster.local"), "NXDOMAIN");
    assert!(cluster.lab.count("nxdomain") > 0);
    // A static name wins over the cluster's.
    assert_eq!(cluster.lab.dig(&format!("@{DNS} +short web.default.svc.cluster.local")), "10.1.1.1");
}

#[test]
fn only_queries_to_the_clusters_own_servers_get_its_names() {
    let cluster = Cluster::new();
    let _daemon = cluster.lab.daemon();
    assert_eq!(status(&cluster, "web.default.svc.cluster.local"), "NOERROR");
    let before = cluster.lab.count("pass_server");
    cluster.lab.dig("@10.77.0.1 web.default.svc.cluster.local");
    assert_eq!(cluster.lab.count("pass_server"), before + 1);
    assert_eq!(
        cluster.lab.dig("@10.77.0.1 +short apis.example.org"),
        "172.16.171.52",
        "static names are for everybody"
    );
}
