//! Frames that are for other hosts. An interface of a node may see them; the host's end of a client's port accepts everything
//! that its client sends.

use crate::common::packet::{Query, TYPE_A};
use crate::lab::{Lab, RefusingServer, SERVER, SERVER6, until};
use crate::sockets::{Client, Reply};

const FAR: &str = "10.77.0.53";
const FAR6: &str = "fd77::53";

fn apis() -> Query {
    Query::new("apis.example.org", TYPE_A)
}

fn is_answered(reply: &Result<Reply, String>) -> bool {
    matches!(reply, Ok(Reply::Edns(..)))
}

/// The pod and a server are on a hub, and so is `eth0` of the host, a port of its bridge `br0`, as on a node with virtual
/// machines. The host sees what the pod sends to the server.
fn hub() -> Lab {
    let mut lab = Lab::new();
    lab.add("far");
    lab.ip("host", "addr flush dev veth0");
    // A hub: it learns no addresses and floods every frame.
    lab.ip("host", "link add hub type bridge ageing_time 0");
    lab.ip("host", "link add br0 address 02:00:00:00:00:b0 type bridge");
    lab.ip("host", "link add eth0 type veth peer name port0");
    lab.veth(("host", "veth1"), ("far", "eth0"));
    for port in ["veth0", "veth1", "port0"] {
        lab.ip("host", &format!("link set {port} master hub"));
    }
    lab.ip("host", "link set eth0 master br0");
    for interface in ["hub", "br0", "eth0", "port0"] {
        lab.ip("host", &format!("link set {interface} up"));
    }
    address(&lab);
    lab
}

/// Sets the addresses of bridge and server, and the daemon's config.
pub fn address(lab: &Lab) {
    for (ns, dev, v4, v6) in [("host", "br0", SERVER, SERVER6), ("far", "eth0", FAR, FAR6)] {
        lab.ip(ns, &format!("addr add {v4}/24 dev {dev}"));
        lab.ip(ns, &format!("addr add {v6}/64 dev {dev} nodad"));
    }
    // Other interfaces of the host must not answer ARP for the bridge's addresses.
    lab.sh("host", "echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore");
    lab.configure("Ifname: eth0\nNetworkDirection: Ingress\n");
}

/// The link-layer address of an interface of the host, as text.
pub fn mac(lab: &Lab, interface: &str) -> String {
    let shown = lab.sh("host", &format!("ip -o link show {interface}"));
    let mut words = shown.split_whitespace().skip_while(|w| *w != "link/ether");
    words.nth(1).expect("an address").to_owned()
}

#[test]
fn a_third_host_ignores_frames_that_a_switch_floods() {
    ignores_frames_for_others(&hub());
}

/// `eth0` of the host is a port of `br0`, which has [`SERVER`]. It sees the frames between `pod` and `far`, which has
/// [`FAR`].
pub fn ignores_frames_for_others(lab: &Lab) {
    let _server = RefusingServer::new(lab, "far", &[FAR, FAR6]);
    let _daemon = lab.daemon();
    for server in [FAR, FAR6] {
        let reply = Client::new(lab, "pod", server).ask(&apis());
        assert!(matches!(reply, Ok(Reply::Server)), "{server}: {reply:?}");
    }
    assert_eq!([lab.count("pass_address"), lab.count("answered")], [2, 0]);
    // To the bridge's address.
    for server in [SERVER, SERVER6] {
        let reply = Client::new(lab, "pod", server).ask(&apis());
        assert!(is_answered(&reply), "{server}: {reply:?}");
    }
    // The bridge's address may change.
    lab.ip("host", "link set br0 address 02:00:00:00:00:b1");
    lab.ip("pod", &format!("neigh replace {SERVER} lladdr 02:00:00:00:00:b1 dev eth0"));
    until("the bridge's other address", || {
        let client = Client::new(lab, "pod", SERVER);
        if client.is_silent(&apis()) { Err("no reply".into()) } else { Ok(()) }
    });
    lab.ip("pod", &format!("neigh replace {SERVER} lladdr 02:00:00:00:00:b0 dev eth0"));
    assert!(Client::new(lab, "pod", SERVER).is_silent(&apis()), "the previous address");
    // To the port's own address.
    lab.ip("pod", &format!("neigh replace {SERVER} lladdr {} dev eth0", mac(lab, "eth0")));
    let reply = Client::new(lab, "pod", SERVER).ask(&apis());
    assert!(is_answered(&reply), "{reply:?}");
    // After the port has left the bridge.
    lab.ip("pod", &format!("neigh replace {SERVER} lladdr 02:00:00:00:00:b1 dev eth0"));
    lab.ip("host", "link set eth0 nomaster");
    until("the bridge's address is no longer accepted", || {
        let client = Client::new(lab, "pod", SERVER);
        if client.is_silent(&apis()) { Ok(()) } else { Err("answered".into()) }
    });
}

/// Hairpin mode, as container networks set it: frames may leave by the port that they came by.
#[test]
fn a_pod_on_a_bridge_port_with_hairpin_is_answered_once() {
    let mut lab = Lab::new();
    lab.bridge();
    for port in ["veth0", "veth1"] {
        lab.ip("host", &format!("link set {port} type bridge_slave hairpin on"));
    }
    let _server = RefusingServer::new(&lab, "far", &[SERVER, SERVER6]);
    let _daemon = lab.daemon();
    for server in [SERVER, SERVER6] {
        let client = Client::new(&lab, "pod", server);
        assert!(is_answered(&client.ask(&apis())), "{server}");
        assert!(matches!(client.ask(&Query::new("nothing.example.org", TYPE_A)), Ok(Reply::Server)), "{server}");
        assert!(is_answered(&client.ask(&apis())), "{server}");
    }
    assert_eq!([lab.count("answered"), lab.count("pass_not_found")], [4, 2]);
}

/// The eth0 of a node that is itself a container is a veth with its peer in another namespace, like those of pods.
#[test]
fn a_containers_uplink_takes_frames_to_its_own_address_only() {
    let mut lab = Lab::new();
    lab.add("outside");
    lab.veth(("host", "eth0"), ("outside", "eth0"));
    lab.ip("host", "addr add 10.78.0.1/24 dev eth0");
    lab.ip("outside", "addr add 10.78.0.2/24 dev eth0");
    lab.ip("outside", "neigh add 10.78.0.99 lladdr 02:00:00:00:00:99 dev eth0");
    lab.configure("Ifname: eth0\nNetworkDirection: Ingress\n");
    let _daemon = lab.daemon();
    let client = Client::new(&lab, "outside", "10.78.0.99");
    assert!(is_answered(&client.ask(&apis())), "a client's own port");
    lab.ip("host", "route add default via 10.78.0.2");
    until("it is an uplink", || if client.is_silent(&apis()) { Ok(()) } else { Err("answered".into()) });
    assert!(lab.count("pass_address") > 0);
    let to_itself = Client::new(&lab, "outside", "10.78.0.1");
    assert!(is_answered(&to_itself.ask(&apis())), "to its own address");
    lab.ip("host", "route del default");
    until("it is a client's again", || if client.is_silent(&apis()) { Err("no reply".into()) } else { Ok(()) });
}

/// A bridge with the default route whose ports are all veths, as on a node that is a container. Each port may be the uplink.
#[test]
fn if_uplink_and_pods_look_alike_each_accepts_what_both_may() {
    let mut lab = Lab::new();
    lab.bridge();
    lab.ip("host", "addr add 10.77.0.3/24 dev br0");
    lab.configure("Ifname: '@pods'\nNetworkDirection: Ingress\n");
    let _server = RefusingServer::new(&lab, "far", &[SERVER]);
    let _daemon = lab.daemon();
    let to_another = Client::new(&lab, "pod", SERVER);
    let is_by_edns = |wanted: bool| {
        until(&format!("by eDNS: {wanted}"), || match to_another.ask(&apis()) {
            reply if is_answered(&reply) == wanted => Ok(()),
            reply => Err(format!("{reply:?}")),
        });
        let reply = Client::new(&lab, "pod", "10.77.0.3").ask(&apis());
        assert!(is_answered(&reply), "to the bridge's address: {reply:?}");
    };
    is_by_edns(true);
    lab.ip("host", &format!("route add default via {SERVER}"));
    is_by_edns(false);
    // A route that names the port decides. Not every kernel can tell by the kind of the port.
    lab.ip("host", "route add default dev veth1 metric 9");
    is_by_edns(true);
}
