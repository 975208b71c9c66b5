//! A resolver in a pod, with the search list that the kubelet writes.

use crate::cluster::DNS;
use crate::lab::compile;
use crate::node::Node;

#[test]
fn short_names_reach_no_server_and_outside_names_reach_it_twice() {
    let node = Node::shared();
    let lab = &node.lab;
    let _daemon = node.daemon();
    lab.write(
        "resolv.conf",
        &format!("nameserver {DNS}\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5 timeout:1 attempts:1\n"),
    );
    // Counted by netfilter on the way to the server, independently of eDNS.
    lab.nft("host", include_str!("files/count_dns.nft"));
    let reached = || -> u64 {
        let chain = lab.sh("host", "nft list chain inet asked on");
        chain
            .split("packets ")
            .nth(1)
            .and_then(|t| t.split(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("{chain}"))
    };
    for compiler in ["gcc", "musl-gcc"] {
        let program = lab.path(compiler);
        compile(compiler, "getaddrinfo.c", &program);
        let resolve = |name: &str| {
            let script = format!(
                "unshare -m sh -ec 'mount --bind resolv.conf /etc/resolv.conf; {} {name} || true'",
                program.display()
            );
            lab.sh("pod", &script).trim().to_owned()
        };
        let before = reached();
        assert_eq!(resolve("web"), "10.96.0.50", "{compiler}");
        assert_eq!(resolve("api.team"), "10.96.0.60", "{compiler}");
        assert_eq!(reached() - before, 0, "{compiler}: short names");
        assert_eq!(resolve("www.example.org"), "192.0.2.80", "{compiler}");
        assert_eq!(reached() - before, 2, "{compiler}: A and AAAA of the name itself");
    }
}
