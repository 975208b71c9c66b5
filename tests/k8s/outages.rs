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
    let daemon = cluster.lab.daemon();
    assert_eq!(status(&cluster, "nope.default.svc.cluster.local"), "NXDOMAIN");
    cluster.kill_api();
    daemon.wait_for("tried again until it works");
    assert_eq!(status(&cluster, "web.default.svc.cluster.local"), "NOERROR");
    // For half a minute the view counts as current.
    let stale = cluster.lab.count("pass_stale");
    let deadline = Instant::now() + Duration::from_secs(45);
    while cluster.lab.count("pass_stale") == stale {
        assert!(Instant::now() < deadline, "absence is still answered");
        status(&cluster, "nope.default.svc.cluster.local");
        std::thread::sleep(Duration::from_millis(500));
    }
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
    println!("current again {:?} after the API server was", back.elapsed());
    cluster.delete(&["service", "web"]);
    until("a change after it", || match status(&cluster, "web.default.svc.cluster.local").as_str() {
        "NXDOMAIN" => Ok(()),
        other => Err(other.to_owned()),
    });
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
