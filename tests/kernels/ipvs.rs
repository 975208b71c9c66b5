//! Queries to addresses of IPVS, as in kube-proxy's ipvs mode, which it forwards to a DNS server on another host.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use edns::datapath::{Datapath, Options, Program};

use crate::common::model::{Model, addresses, node};
use crate::common::packet::{Packet, Query, TYPE_A};
use crate::common::{BOTH_ZONES, TC_ACT_REDIRECT, TC_ACT_UNSPEC};
use crate::lab;
use crate::lab::RefusingServer;
use crate::sockets::{Client, Reply};

const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const ENDPOINT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const ROUNDS: u64 = 20;

#[test]
fn no_query_by_ipvs_is_lost() {
    let mut lab = lab("Ifname: veth0\nNetworkDirection: Egress\n");
    lab.add("client");
    lab.veth(("host", "c0"), ("client", "eth0"));
    lab.ip("host", "addr add 172.30.0.1/24 dev c0");
    lab.ip("client", "addr add 172.30.0.2/24 dev eth0");
    lab.ip("client", "route add default via 172.30.0.1");
    lab.ip("host", &format!("addr add {SERVICE}/32 dev lo"));
    lab.sh("host", "echo 1 >/proc/sys/net/ipv4/ip_forward");
    lab.run_in("host", || add_service(SERVICE, ENDPOINT));
    let _server = RefusingServer::new(&lab, "pod", &[&ENDPOINT.to_string()]);
    let _daemon = lab.daemon();
    let query = Query::new("apis.example.org", TYPE_A);
    for ns in ["host", "client"] {
        let client = Client::new(&lab, ns, &SERVICE.to_string());
        for round in 0..ROUNDS {
            let reply = client.ask(&query);
            assert!(matches!(reply, Ok(Reply::Server)), "{ns}, round {round}: {reply:?}");
        }
    }
    assert_eq!(lab.count("pass_ipvs"), 2 * ROUNDS);
    // Queries to other addresses are answered.
    for ns in ["host", "client"] {
        let reply = Client::new(&lab, ns, &ENDPOINT.to_string()).ask(&query);
        assert!(matches!(reply, Ok(Reply::Edns(..))), "{ns}: {reply:?}");
    }
    assert_eq!(lab.count("answered"), 2);
    // If programs can't see IPVS' marks, all packets pass; in another network namespace none does.
    let options = Options { ext_btf: None, egress: true, max_records: 64, programs: Vec::new() };
    for (ns, verdict) in [("host", TC_ACT_UNSPEC), ("pod", TC_ACT_REDIRECT)] {
        lab.run_in(ns, || {
            let (datapath, mut table) = Datapath::load_without_probe_read(&options).unwrap();
            let mut model = Model::default();
            model.put(&mut table, "apis.example.org", node(vec![(TYPE_A, addresses(&[Ipv4Addr::LOCALHOST], 30))]));
            datapath.settings().set_any_server(BOTH_ZONES);
            datapath.beat().unwrap();
            let program = datapath.test_run(Program::Ethernet).unwrap();
            let (got, _) = program.run(&Packet::v4(&query).frame(), &mut [0; 2048]).unwrap();
            assert_eq!(got, verdict, "in {ns}");
        });
    }
}

/// Adds an IPVS service for UDP port 53 of an address with one endpoint, by setsockopt (`linux/ip_vs.h`), which needs no
/// program in the guest.
fn add_service(service: Ipv4Addr, endpoint: Ipv4Addr) {
    const SET_ADD: libc::c_int = 64 + 1024 + 64 + 2;
    const SET_ADD_DEST: libc::c_int = SET_ADD + 5;
    let port = 53_u16.to_be();

    /// struct ip_vs_service_user
    #[repr(C)]
    struct Service {
        protocol: u16,
        address: u32,
        port: u16,
        fwmark: u32,
        scheduler: [u8; 16],
        flags: u32,
        timeout: u32,
        netmask: u32,
    }
    /// struct ip_vs_dest_user
    #[repr(C)]
    struct Destination {
        address: u32,
        port: u16,
        flags: u32,
        weight: i32,
        upper: u32,
        lower: u32,
    }
    #[repr(C)]
    struct Both(Service, Destination);

    let service = || {
        let mut scheduler = [0; 16];
        scheduler[..2].copy_from_slice(b"rr");
        Service {
            protocol: libc::IPPROTO_UDP as u16,
            address: in_network_order(service),
            port,
            fwmark: 0,
            scheduler,
            flags: 0,
            timeout: 0,
            netmask: u32::MAX,
        }
    };
    let destination =
        Destination { address: in_network_order(endpoint), port, flags: 0, weight: 1, upper: 0, lower: 0 };
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_RAW) };
    assert!(fd >= 0, "a raw socket: {}", io::Error::last_os_error());
    // SAFETY: nothing else owns the new file descriptor.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    set(&socket, SET_ADD, &service());
    set(&socket, SET_ADD_DEST, &Both(service(), destination));
}

fn in_network_order(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}

fn set<T>(socket: &OwnedFd, option: libc::c_int, value: &T) {
    let (at, len) = (std::ptr::from_ref(value).cast(), size_of::<T>() as u32);
    // SAFETY: the value lives through the call and has the size given.
    let ret = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, option, at, len) };
    assert_eq!(ret, 0, "IPVS, option {option}: {}", io::Error::last_os_error());
}
