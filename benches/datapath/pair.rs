//! A node and a pod: two network namespaces joined by a veth pair.

use std::process::Command;

use crate::lab::{Netns, veth};

pub const NODE_IFNAME: &str = "bench-h";
pub const SERVER: &str = "10.77.0.1";

pub struct Pair {
    _node: Netns,
    pod: Netns,
}

impl Pair {
    /// Creates both namespaces. The calling thread is in the node's afterwards, and so are threads and processes that it
    /// starts.
    pub fn new() -> Self {
        let (node, pod) = (Netns::new("bench-node"), Netns::new("bench-pod"));
        veth((&node, NODE_IFNAME), (&pod, "bench-p"));
        node.ip(&format!("addr add {SERVER}/24 dev {NODE_IFNAME}"));
        pod.ip("addr add 10.77.0.2/24 dev bench-p");
        node.enter();
        Self { _node: node, pod }
    }

    /// A command in the pod.
    pub fn pod_command(&self, program: &str) -> Command {
        self.pod.command(program)
    }

    /// Moves the calling thread into the pod.
    pub fn enter_pod(&self) {
        self.pod.enter();
    }
}
