//! configs/kubernetes is accepted by a real API server. A daemon runs as in the DaemonSet: with the token of its service
//! account, its config and its capabilities.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::cluster::{API, Cluster, DNS};
use crate::lab::{Daemon, EDNS, run, until};

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/kubernetes");

fn get(cluster: &Cluster, what: &[&str]) -> Value {
    let output = run(cluster.kubectl(&["-n", "kube-system", "get", "-o", "json"]).args(what));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Writes the files of a ConfigMap as the kubelet does: replacing one link changes all of them.
fn mount(cluster: &Cluster, version: &str) {
    let folder = cluster.lab.path("etc");
    let data = folder.join(format!("..{version}"));
    fs::create_dir_all(&data).unwrap();
    let files = get(cluster, &["configmap", "edns"]);
    for (name, text) in files["data"].as_object().unwrap() {
        fs::write(data.join(name), text.as_str().unwrap()).unwrap();
        let _ = symlink(Path::new("..data").join(name), folder.join(name));
    }
    symlink(format!("..{version}"), folder.join("..new")).unwrap();
    fs::rename(folder.join("..new"), folder.join("..data")).unwrap();
}

struct Pod(Daemon);

impl Pod {
    /// Starts the daemon as the kubelet and the container runtime would.
    fn start(cluster: &Cluster, container: &Value) -> Self {
        let context = &container["securityContext"];
        assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]));
        assert_eq!(context["runAsUser"], 0);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        let added = context["capabilities"]["add"].as_array().unwrap();
        let added: String = added.iter().map(|c| format!(",+{}", c.as_str().unwrap().to_lowercase())).collect();
        let script = format!(
            "mount -t tmpfs tmpfs /run
             account=/run/secrets/kubernetes.io/serviceaccount
             mkdir -p $account /run/edns
             cp token ca.crt $account
             echo kube-system >$account/namespace
             mount -o remount,bind,ro /
             export KUBERNETES_SERVICE_HOST={API} KUBERNETES_SERVICE_PORT=443
             exec setpriv --no-new-privs --inh-caps -all --bounding-set -all{added} {EDNS} --config etc/config.yaml"
        );
        let mut command = cluster.lab.command("host", "unshare");
        command.args(["-m", "sh", "-ec", &script]).current_dir(&cluster.lab.dir);
        Self(Daemon::of(&cluster.lab, command))
    }

    /// A command of edns in the pod.
    fn exec(&self, cluster: &Cluster, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.0.pid())).arg(EDNS).args(arguments);
        command.arg("--config").arg(cluster.lab.path("etc/config.yaml"));
        command
    }

    fn wait_until_started(&self, cluster: &Cluster, container: &Value) {
        let probe: Vec<&str> =
            container["startupProbe"]["exec"]["command"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(probe[0], "/usr/sbin/edns");
        until("the probe succeeds", || {
            let output = self.exec(cluster, &probe[1..]).output().unwrap();
            if output.status.success() { Ok(()) } else { Err(format!("{output:?} {}", self.0.log())) }
        });
    }
}

#[test]
fn manifests_are_valid_and_the_daemon_that_they_describe_answers() {
    let cluster = Cluster::new();
    let lab = &cluster.lab;
    run(&mut cluster.kubectl(&["apply", "--server-side", "--dry-run=server", "-k", MANIFESTS]));
    run(&mut cluster.kubectl(&["apply", "-k", MANIFESTS]));
    let token = run(&mut cluster.kubectl(&["-n", "kube-system", "create", "token", "edns"])).stdout;
    fs::write(lab.path("token"), token.trim_ascii()).unwrap();
    let daemonset = get(&cluster, &["daemonset", "edns"]);
    let pod = &daemonset["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    // Otherwise a second pod would find no room on the node.
    assert_eq!(daemonset["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"], 1);
    assert!(container["ports"].is_null(), "{container}");
    // On every node, in the network namespace of the node, and without using the DNS server that it answers for.
    assert_eq!((&pod["hostNetwork"], &pod["dnsPolicy"]), (&Value::from(true), &Value::from("Default")));
    assert_eq!(pod["tolerations"], serde_json::json!([{ "operator": "Exists" }]));
    assert_eq!(pod["priorityClassName"], "system-node-critical");
    // A throttled daemon misses its heartbeat.
    assert!(
        container["resources"]["limits"]["memory"].is_string() && container["resources"]["limits"]["cpu"].is_null()
    );

    mount(&cluster, "1");
    let old = Pod::start(&cluster, container);
    old.wait_until_started(&cluster, container);
    let ask = |name: &str| lab.dig(&format!("@{DNS} +short {name}"));
    let answered = |pod: &Pod| {
        let output = run(&mut pod.exec(&cluster, &["stats", "--json"]));
        let stats: Value = serde_json::from_slice(&output.stdout).unwrap();
        let queries = stats["queries"].as_array().unwrap().iter();
        queries.filter(|q| q["outcome"] == "answered").map(|q| q["count"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(ask("web.default.svc.cluster.local"), "10.96.0.50");
    assert_eq!(answered(&old), 1);

    // A new version takes over, as maxSurge allows.
    let new = Pod::start(&cluster, container);
    new.wait_until_started(&cluster, container);
    assert_eq!(ask("web.default.svc.cluster.local"), "10.96.0.50");
    assert_eq!((answered(&old), answered(&new)), (1, 1));
    old.0.signal(Signal::SIGTERM);
    for probe in ["readinessProbe", "livenessProbe"] {
        let get = &container[probe]["httpGet"];
        let url = format!("http://{}:{}{}", get["host"].as_str().unwrap(), get["port"], get["path"].as_str().unwrap());
        until(&url, || {
            let output = lab.command("host", "curl").args(["-sf", &url]).output().unwrap();
            if output.status.success() { Ok(()) } else { Err(format!("{output:?}")) }
        });
    }
    assert_eq!(ask("web.default.svc.cluster.local"), "10.96.0.50");
    assert_eq!(answered(&new), 2);

    // The files of the ConfigMap change without a restart.
    let names = "Domains:\n  - Name: apis.example.org\n    IP: 172.16.171.52\n";
    let patch = serde_json::json!({ "data": { "domain.yaml": names } }).to_string();
    run(&mut cluster.kubectl(&["-n", "kube-system", "patch", "configmap", "edns", "-p", &patch]));
    mount(&cluster, "2");
    until("a name of the new ConfigMap", || match ask("apis.example.org").as_str() {
        "172.16.171.52" => Ok(()),
        other => Err(format!("{other} {}", new.0.log())),
    });
}
