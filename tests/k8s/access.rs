//! The daemon's access to the API server: wrong, expired and replaced tokens, certificates and permissions.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use hickory_proto::rr::RecordType::A;

use crate::cluster::{API, Cluster};
use crate::lab::{EDNS, within};
use crate::node::{CURRENT_WITHIN, Node};

/// The manual's manifest, for a service account of this name.
fn rbac(name: &str) -> String {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/kubernetes/rbac.yaml")).unwrap();
    text.replace("name: edns", &format!("name: {name}"))
}

fn token(cluster: &Cluster, account: &str) -> String {
    cluster.ask(&["create", "token", account, "-n", "kube-system"])
}

/// Breaks the connections, so that new watches begin.
fn force_new_watches(node: &Node) {
    node.refuse_api();
    // A client that waits for data sends something after a while.
    within(30, "no connection is left", || {
        match node.lab.sh("host", "ss -Htn state established dport = :443").trim() {
            "" => Ok(()),
            left => Err(left.to_owned()),
        }
    });
    node.reach_api();
}

#[test]
fn a_wrong_or_old_token_and_revoked_permissions_are_recovered_from() {
    let node = Node::shared();
    let cluster = &node.cluster;
    cluster.apply(&rbac("edns-token"));
    let kubeconfig = |token: &str| {
        node.lab.write("token", token);
        let file = node.lab.path("token");
        node.lab.write("kubeconfig", &cluster.kubeconfig(&format!("tokenFile: {}", file.display())));
    };
    kubeconfig("wrong");
    node.configure_access("KubeConfig: kubeconfig", "");
    let daemon = node.spawn();
    node.until_log(&daemon, 30, "401");
    let client = node.pod();
    // Static names are answered meanwhile.
    node.until_address(&client, "apis.example.org", "172.16.171.52");
    assert!(!daemon.log().contains("] ready"));
    kubeconfig(&token(cluster, "edns-token"));
    node.until_ready(&daemon);
    node.until_answered(&client, "web.default.svc.cluster.local");

    // An open watch continues without permissions; a new one is refused.
    cluster.delete(&["clusterrolebinding", "edns-token"]);
    force_new_watches(&node);
    node.until_log(&daemon, 30, "is forbidden");
    node.until_stale(&client, &daemon);
    // Known names are still answered.
    node.until_answered(&client, "web.default.svc.cluster.local");
    cluster.apply(&rbac("edns-token"));
    node.until_negative_answers_are(&client, CURRENT_WITHIN, true);

    // The service account is created again: its old tokens are invalid.
    cluster.delete(&["serviceaccount", "edns-token", "-n", "kube-system"]);
    cluster.apply(&rbac("edns-token"));
    let old = daemon.log().matches("401").count();
    within(60, "the old token is refused", || {
        // The API server caches valid tokens for some seconds.
        force_new_watches(&node);
        sleep(Duration::from_secs(1));
        let log = daemon.log();
        if log.matches("401").count() > old { Ok(()) } else { Err(log) }
    });
    kubeconfig(&token(cluster, "edns-token"));
    cluster.apply("apiVersion: v1\nkind: Service\nmetadata: {name: after-token}\nspec: {ports: [{port: 80}]}\n");
    node.until_answered(&client, "after-token.default.svc.cluster.local");
    cluster.delete(&["service", "after-token"]);
}

/// The log of ten seconds of a daemon with this kubeconfig, at the default level. It doesn't get ready.
fn first_log(node: &Node, kubeconfig: &str) -> String {
    node.lab.write("kubeconfig", kubeconfig);
    node.configure_access("KubeConfig: kubeconfig", "");
    // Replaces the system's list of CAs.
    let daemon = node.lab.spawn_with("host", "config.yaml", &[("SSL_CERT_FILE", node.lab.path("other.crt"))]);
    node.until_log(&daemon, 30, "retrying until it succeeds");
    sleep(Duration::from_secs(10));
    let log = daemon.log();
    assert!(!log.contains("] ready"), "{log}");
    log
}

#[test]
fn a_missing_permission_is_named_once_with_the_manifest_that_grants_it() {
    let node = Node::shared();
    let cluster = &node.cluster;
    cluster.apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: edns-nothing, namespace: kube-system}\n");
    let token = format!("token: {}", token(cluster, "edns-nothing"));
    let log = first_log(&node, &cluster.kubeconfig(&token));
    let line = only_warning(&log);
    assert!(line.contains("403 Forbidden") && line.contains("cannot list resource"), "{line}");
    assert!(line.contains("configs/kubernetes/rbac.yaml"), "{line}");
}

/// The only line of a log that is a warning or worse.
fn only_warning(log: &str) -> &str {
    let lines: Vec<&str> = log.lines().filter(|l| l.contains("WARN") || l.contains("ERROR")).collect();
    let [line] = lines[..] else { panic!("{log}") };
    line
}

#[test]
fn a_wrong_ca_is_named_once() {
    let node = Node::shared();
    let cluster = &node.cluster;
    node.lab.sh("host", include_str!("files/other_ca.sh"));
    let kubeconfig = cluster.kubeconfig("token: none");
    let (ours, other) = (cluster.lab.path("ca.crt").display().to_string(), node.lab.path("other.crt"));
    let of_system = format!("the system's CA list ({} names no CA)", node.lab.path("kubeconfig").display());
    for (kubeconfig, place) in [
        (kubeconfig.replace(&ours, &other.display().to_string()), other.display().to_string()),
        (kubeconfig.replace(&format!(", certificate-authority: {ours}"), ""), of_system),
    ] {
        let log = first_log(&node, &kubeconfig);
        let line = only_warning(&log);
        assert!(line.contains(&format!("is not signed by the CA in {place}")), "{line}");
        assert!(line.contains("UnknownIssuer"), "{line}");
    }
}

#[test]
fn a_name_missing_in_the_servers_certificate_is_reported_once_with_its_names() {
    let node = Node::shared();
    let kubeconfig = node.cluster.kubeconfig("token: none");
    let log = first_log(&node, &kubeconfig.replace("server: ", "tls-server-name: wrong, server: "));
    let line = only_warning(&log);
    let file = node.lab.path("kubeconfig");
    let remedy = format!("set server or tls-server-name in {} to a name in it", file.display());
    assert!(line.contains(&remedy), "{line}");
    assert!(line.contains("\"wrong\"") && line.contains("kubernetes.default.svc"), "{line}");
}

#[test]
fn in_a_pod_with_the_least_permissions() {
    let node = Node::shared();
    let cluster = &node.cluster;
    cluster.apply(&rbac("edns"));
    node.lab.sh(
        "host",
        &format!("mkdir sa; cp {} sa/ca.crt; printf kube-system >sa/namespace", cluster.lab.path("ca.crt").display()),
    );
    node.lab.write("sa/token", &token(cluster, "edns"));
    node.configure_access("IsInK8S: true", "");
    let script = format!(
        "mount -t tmpfs tmpfs /var/run && mkdir -p /var/run/secrets/kubernetes.io/serviceaccount /run/edns
         mount --bind sa /var/run/secrets/kubernetes.io/serviceaccount
         exec {EDNS} --config config.yaml 2>pod.log"
    );
    let mut daemon = node
        .lab
        .command("host", "unshare")
        .args(["-m", "sh", "-ec", &script])
        .envs([("KUBERNETES_SERVICE_HOST", API), ("KUBERNETES_SERVICE_PORT", "443")])
        .current_dir(&node.lab.dir)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let log = || std::fs::read_to_string(node.lab.path("pod.log")).unwrap_or_default();
    within(30, "ready", || if log().contains("] ready") { Ok(()) } else { Err(log()) });
    let client = node.pod();
    node.until_address(&client, "web.default.svc.cluster.local", "10.96.0.50");
    assert_eq!(client.rcode("nobody.default.svc.cluster.local", A), "NXDomain");
    // Its control socket is visible in its mount namespace only.
    let stats = Command::new("nsenter")
        .args(["-m", "-t", &daemon.id().to_string(), EDNS, "stats", "--config"])
        .arg(node.lab.path("config.yaml"))
        .output()
        .unwrap();
    let stats = String::from_utf8_lossy(&stats.stdout).into_owned();
    assert!(stats.contains("nxdomain") && stats.contains("answered"), "{stats}");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn certificates_that_are_all_replaced() {
    let cluster = Arc::new(Cluster::new());
    let node = Node::new(&cluster);
    let copy = || {
        for file in ["ca.crt", "admin.crt", "admin.key"] {
            std::fs::copy(cluster.lab.path(file), node.lab.path(file)).unwrap();
        }
    };
    copy();
    let kubeconfig = std::fs::read_to_string(cluster.lab.path("kubeconfig")).unwrap();
    let (theirs, own) = (cluster.lab.dir.to_str().unwrap(), node.lab.dir.to_str().unwrap());
    node.lab.write("kubeconfig", &kubeconfig.replace(theirs, own));
    node.configure_access("KubeConfig: kubeconfig", "");
    let daemon = node.daemon();
    let client = node.pod();
    cluster.kill_api();
    cluster.certificates();
    cluster.start_api();
    node.until_log(&daemon, 30, "invalid peer certificate");
    node.until_answered(&client, "web.default.svc.cluster.local");
    copy();
    cluster.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: after}\nspec: {clusterIP: 10.96.0.77, ports: [{port: 80}]}\n",
    );
    node.until_answered(&client, "after.default.svc.cluster.local");
    node.until_address(&client, "after.default.svc.cluster.local", "10.96.0.77");
}
