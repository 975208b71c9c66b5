//! A node of a cluster: a pod, the daemon on the pod's interface, and a connection to the control plane that can be cut.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType::{self, A};

use crate::client::{Client, Reply, TRIES};
use crate::cluster::{Cluster, DNS};
use crate::lab::{Daemon, Lab, fill, veth, within};

pub struct Node {
    /// The namespace `host` is the node, `pod` a pod on it.
    pub lab: Lab,
    pub cluster: Arc<Cluster>,
}

/// Seconds until the view is current again, in tests that run at the same time as others; the promise is ten.
pub const CURRENT_WITHIN: u64 = 30;
/// Outcomes that are answers.
const ANSWERS: [&str; 3] = ["answered", "nodata", "nxdomain"];

impl Node {
    pub fn new(cluster: &Arc<Cluster>) -> Self {
        let lab = Lab::new();
        let n = cluster.next_node();
        veth((lab.netns("host"), "api0"), (cluster.lab.netns("host"), &format!("node{n}")));
        lab.ip("host", &format!("addr add 10.78.{n}.2/24 dev api0"));
        cluster.lab.ip("host", &format!("addr add 10.78.{n}.1/24 dev node{n}"));
        lab.ip("host", &format!("route add 10.96.0.0/16 via 10.78.{n}.1"));
        lab.netns("host").sysctl("net/ipv4/ip_forward", "1");
        lab.nft("host", include_str!("files/node.nft"));
        let node = Self { lab, cluster: Arc::clone(cluster) };
        node.configure("");
        node
    }

    /// A node of the shared cluster.
    pub fn shared() -> Self {
        Self::new(&Cluster::shared())
    }

    /// Writes a config with these additional lines.
    pub fn configure(&self, more: &str) {
        let kubeconfig = self.cluster.lab.path("kubeconfig");
        self.configure_access(&format!("KubeConfig: {}", kubeconfig.display()), more);
    }

    /// Writes a config with these lines for the access to the API, and additional lines.
    pub fn configure_access(&self, access: &str, more: &str) {
        self.lab.write(
            "config.yaml",
            &format!("EnableK8S: true\n{access}\nIfname: veth0\nNetworkDirection: Ingress\n{more}"),
        );
    }

    /// Starts the daemon. Returns when it is ready.
    pub fn daemon(&self) -> Daemon {
        let daemon = self.spawn();
        self.until_ready(&daemon);
        daemon
    }

    /// Starts the daemon at log level debug.
    pub fn spawn(&self) -> Daemon {
        self.lab.spawn_with("host", "config.yaml", &[("RUST_LOG", PathBuf::from("edns=debug"))])
    }

    pub fn until_ready(&self, daemon: &Daemon) {
        self.until_log(daemon, 60, "] ready");
    }

    /// Waits until a line of the log contains this text.
    pub fn until_log(&self, daemon: &Daemon, seconds: u64, text: &str) {
        within(seconds, &format!("{text:?} in the log"), || {
            let log = daemon.log();
            log.lines().any(|l| l.contains(text)).then_some(()).ok_or(log)
        });
    }

    /// A client in the pod.
    pub fn pod(&self) -> Client {
        Client::new(&self.lab, "pod", DNS)
    }

    /// A client that reaches CoreDNS without passing eDNS' program.
    pub fn direct(&self) -> Client {
        Client::new(&self.lab, "host", DNS)
    }

    /// The number of queries that were answered in the kernel.
    pub fn answered(&self) -> u64 {
        self.lab.counts(&ANSWERS)
    }

    /// The reply to a client in the pod, and whether eDNS sent it.
    pub fn ask(&self, client: &Client, name: &str, rtype: RecordType) -> (Reply, bool) {
        let reply = (0..TRIES).find_map(|_| client.ask_with_sender(name, rtype));
        reply.unwrap_or_else(|| panic!("no reply: {name} {rtype}"))
    }

    /// Waits until a query for A is answered in the kernel. It may pass for a moment if the machine is too busy for a
    /// heartbeat.
    pub fn until_answered(&self, client: &Client, name: &str) {
        within(20, &format!("{name} is answered in the kernel"), || match self.ask(client, name, A) {
            (reply, true) if reply.rcode == "NoError" => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    /// Waits until a name has this address only.
    pub fn until_address(&self, client: &Client, name: &str, address: &str) {
        within(20, &format!("{name} is {address}"), || match client.data(name, A) {
            data if data == [address] => Ok(()),
            data => Err(format!("{data:?}")),
        });
    }

    /// Waits until the view is stale and the kernel's negative answers are suspended.
    pub fn until_stale(&self, client: &Client, daemon: &Daemon) {
        self.until_log(daemon, 150, "view stale");
        self.until_negative_answers_are(client, 10, false);
    }

    /// Waits until a query for A has this rcode.
    pub fn until_rcode(&self, client: &Client, seconds: u64, name: &str, rcode: &str) {
        within(seconds, &format!("{name} is {rcode}"), || match client.rcode(name, A) {
            is if is == rcode => Ok(()),
            is => Err(is),
        });
    }

    /// Waits until a name that doesn't exist is answered in the kernel (or passes). Returns how long it took.
    pub fn until_negative_answers_are(&self, client: &Client, seconds: u64, answered: bool) -> Duration {
        let start = Instant::now();
        within(seconds, &format!("negative answers in the kernel: {answered}"), || {
            let (reply, in_kernel) = self.ask(client, "nobody.default.svc.cluster.local", A);
            if reply.rcode == "NXDomain" && in_kernel == answered {
                Ok(())
            } else {
                Err(format!("{in_kernel}, {reply:?}"))
            }
        });
        start.elapsed()
    }

    /// Makes connections to the API server fail with a reset.
    pub fn refuse_api(&self) {
        self.lab.nft("host", include_str!("files/refuse_api.nft"));
    }

    /// Drops packets from the API server, after this many octets from it.
    pub fn drop_api(&self, after: u64) {
        self.lab.nft("host", &fill(include_str!("files/drop_api.nft"), &[("OCTETS", &after)]));
    }

    /// Ends both.
    pub fn reach_api(&self) {
        self.lab.nft("host", "flush table inet api");
    }
}
