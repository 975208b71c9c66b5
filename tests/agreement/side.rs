//! One of the two daemons' programs, in network namespaces of its own: four interfaces, each with a daemon.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::net::if_::if_nametoindex;

use crate::cluster::Cluster;
use crate::common::attach::{Hook, attach_to, forwarder};
use crate::common::raw::RawSocket;
use crate::common::tun;
use crate::lab::{Daemon, Lab};
use crate::node::Node;
use crate::static_names::PASS_NAMES;
use crate::wire::{Sender, Wire};

/// Above all that is sent.
const MTU: u32 = 9000;
/// The first daemon's port for metrics.
const METRICS: usize = 9301;

/// An interface with a daemon.
struct Lane {
    name: &'static str,
    config: &'static str,
    hook: Hook,
    /// Namespace and interface that frames are sent from, and that replies come back to; None: a tun interface.
    sender: Option<(&'static str, &'static str)>,
}

const LANES: [Lane; 4] = [
    // Its peer is in another namespace: replies go straight there.
    Lane { name: "veth0", config: "NetworkDirection: Ingress\n", hook: Hook::Ingress, sender: Some(("pod", "eth0")) },
    Lane {
        name: "near0",
        config: "NetworkDirection: Ingress\nDnsServers: any\nTTL: 5\n",
        hook: Hook::Ingress,
        sender: Some(("host", "near1")),
    },
    Lane {
        name: "out0",
        config: "NetworkDirection: Egress\nDnsServers: [10.96.0.10, 192.0.2.53, 'fd00:10:96::a', '2001:db8::53']\n",
        hook: Hook::Egress,
        sender: Some(("host", "out0")),
    },
    Lane { name: "tun0", config: "NetworkDirection: Ingress\nDnsServers: any\n", hook: Hook::Ingress, sender: None },
];

/// How many interfaces a side has.
pub const WIRES: usize = LANES.len();

pub struct Side {
    pub name: &'static str,
    /// One for each lane.
    pub wires: Vec<Wire>,
    /// They end before the lab does.
    _daemons: Vec<Daemon>,
    _behind: Vec<OwnedFd>,
    pub node: Node,
}

/// The name of a lane's interface.
pub fn lane(number: usize) -> &'static str {
    LANES[number].name
}

impl Side {
    /// Starts the daemons of a program, and returns when they are ready. They read the time from `clock`, a library that clock.c makes.
    pub fn start(name: &'static str, program: &Path, cluster: &Arc<Cluster>, clock: &[(&str, PathBuf)]) -> Self {
        let mut node = Node::new(cluster);
        let wires = set_up(&mut node.lab);
        let kubeconfig = cluster.lab.path("kubeconfig");
        let lab = &node.lab;
        for (i, lane) in LANES.iter().enumerate() {
            lab.write(
                &format!("{}.yaml", lane.name),
                &format!(
                    "EnableK8S: true\nKubeConfig: {}\nIfname: {}\nMetricsAddr: 127.0.0.1:{}\n{PASS_NAMES}{}",
                    kubeconfig.display(),
                    lane.name,
                    METRICS + i,
                    lane.config
                ),
            );
        }
        let program = program.to_str().expect("a path in UTF-8");
        let spawn = |lane: &Lane| lab.spawn_program(program, "host", &format!("{}.yaml", lane.name), clock);
        let daemons: Vec<Daemon> = LANES.iter().map(spawn).collect();
        daemons.iter().for_each(|daemon| daemon.wait_for("] ready"));
        let behind = LANES.iter().map(|lane| forward(lab, lane)).collect();
        Self { name, wires, _daemons: daemons, _behind: behind, node }
    }

    /// Queries that a lane's daemon has counted, by outcome and family.
    pub fn counters(&self, lane: usize) -> BTreeMap<String, u64> {
        let page = self.node.lab.sh("host", &format!("curl -sS http://127.0.0.1:{}/metrics", METRICS + lane));
        let lines = page.lines().filter_map(|line| line.strip_prefix("edns_queries_total"));
        let counters = lines.map(|line| {
            let (labels, count) = line.rsplit_once(' ').expect("a value");
            (labels.to_owned(), count.parse::<f64>().expect("a number") as u64)
        });
        counters.collect()
    }

    /// Sets the MTU of the interfaces that replies are sent by.
    pub fn set_mtu(&self, mtu: usize) {
        for lane in &LANES {
            self.node.lab.ip("host", &format!("link set {} mtu {mtu}", lane.name));
        }
    }
}

/// Makes the interfaces, without addresses, so that no kernel sends anything on its own.
fn set_up(lab: &mut Lab) -> Vec<Wire> {
    lab.add("behind");
    lab.veth(("host", "near0"), ("host", "near1"));
    lab.veth(("host", "out0"), ("pod", "out1"));
    let open = |name| {
        let tun = tun::open(name, libc::IFF_TUN);
        fcntl(&tun, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("O_NONBLOCK");
        tun
    };
    let (near, behind) = lab.run_in("host", || (open("tun0"), open("tun1")));
    let mut tuns = Some((near, behind));
    for lane in LANES.iter().filter(|lane| lane.sender.is_some()) {
        let name = behind_of(lane);
        lab.veth(("host", &name), ("behind", &name));
    }
    let nodes = [("host", "veth0", 0x53), ("host", "near0", 0x53), ("host", "out0", 0x53)];
    let pods = [("pod", "eth0", 7), ("host", "near1", 7), ("pod", "out1", 7)];
    for (ns, interface, last) in nodes.into_iter().chain(pods) {
        lab.ip(ns, &format!("addr flush dev {interface}"));
        lab.ip(ns, &format!("link set {interface} address 02:00:00:00:00:{last:02x}"));
    }
    for ns in ["host", "pod", "behind"] {
        lab.sh(
            ns,
            &format!(
                "nft 'add table inet quiet
                      add chain inet quiet in {{ type filter hook prerouting priority -400; }}
                      add rule inet quiet in iifname != {{ \"lo\", \"api0\" }} drop'
                 # For interfaces that get IPv6 anew: those whose MTU rises to what it needs.
                 echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
                 for i in veth0 eth0 near0 near1 out0 out1 b-veth0 b-near0 b-out0 tun0 tun1; do
                     test -e /proc/sys/net/ipv6/conf/$i || continue
                     echo 1 >/proc/sys/net/ipv6/conf/$i/disable_ipv6
                     ip link set $i mtu {MTU} up
                 done"
            ),
        );
    }
    let ethernet = |lane: &Lane, ns, interface| {
        let behind = behind_of(lane);
        let index = |name: &str| if_nametoindex(name).expect("the interface") as i32;
        let bind = |ns, name: &str| lab.run_in(ns, || RawSocket::bind(index(name))).expect("AF_PACKET");
        Wire::Ethernet {
            sender: lab.run_in(ns, || Sender::bind(index(interface))).expect("AF_PACKET"),
            replies: bind(ns, interface),
            behind: bind("behind", &behind),
        }
    };
    let wire = |lane: &Lane| match lane.sender {
        Some((ns, interface)) => ethernet(lane, ns, interface),
        None => {
            let (near, behind) = tuns.take().expect("one lane with a tun");
            Wire::Ip { near, behind }
        }
    };
    LANES.iter().map(wire).collect()
}

/// The interface that a lane's frames go out by when they pass.
fn behind_of(lane: &Lane) -> String {
    if lane.sender.is_some() { format!("b-{}", lane.name) } else { "tun1".to_owned() }
}

/// Attaches a program behind the daemon's that sends all frames out where they are compared.
fn forward(lab: &Lab, lane: &Lane) -> OwnedFd {
    lab.run_in("host", || {
        let index = |name: &str| if_nametoindex(name).expect("the interface") as i32;
        let program = forwarder(index(&behind_of(lane)));
        attach_to(program.as_fd(), index(lane.name), lane.hook)
    })
}
