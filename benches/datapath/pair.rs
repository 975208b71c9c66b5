//! Two network namespaces and a veth pair: a pod and its node.

use std::process::{Command, Stdio};

pub const NODE_IFNAME: &str = "bench-h";
pub const SERVER: &str = "10.77.0.1";

/// Removed when dropped.
pub struct Lab {
    node: String,
    pod: String,
}

impl Lab {
    /// Makes both namespaces; the calling thread is in the node's afterwards, and so are threads and processes that it starts.
    pub fn new() -> Self {
        let pid = std::process::id();
        let lab = Self { node: format!("edns-bench-node-{pid}"), pod: format!("edns-bench-pod-{pid}") };
        let (node, pod) = (&lab.node, &lab.pod);
        for command in [
            format!("netns add {pod}"),
            format!("netns add {node}"),
            format!("-n {node} link add {NODE_IFNAME} type veth peer name bench-p netns {pod}"),
            format!("-n {node} addr add {SERVER}/24 dev {NODE_IFNAME}"),
            format!("-n {pod} addr add 10.77.0.2/24 dev bench-p"),
            format!("-n {node} link set lo up"),
            format!("-n {node} link set {NODE_IFNAME} up"),
            format!("-n {pod} link set bench-p up"),
        ] {
            let status = Command::new("ip").args(command.split(' ')).status().expect("ip");
            assert!(status.success(), "ip {command}");
        }
        enter(node);
        lab
    }

    /// A command in the pod.
    pub fn pod_command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.pod)).arg(program);
        command
    }

    /// Moves the calling thread into the pod.
    pub fn enter_pod(&self) {
        enter(&self.pod);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for netns in [&self.pod, &self.node] {
            let _ = Command::new("ip").args(["netns", "del", netns]).stderr(Stdio::null()).status();
        }
    }
}

fn enter(netns: &str) {
    let file = std::fs::File::open(format!("/run/netns/{netns}")).expect("the namespace");
    nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET).expect("root");
}
