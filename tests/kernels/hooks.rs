//! The hooks that the program is attached to.

use nix::sys::signal::Signal;

use crate::{is_at_least, lab};

pub fn has_tcx() -> bool {
    is_at_least((6, 6))
}

#[test]
fn tcx_if_the_kernel_has_it_otherwise_a_filter_of_our_priority() {
    for direction in ["Ingress", "Egress"] {
        let lab = lab(&format!("Ifname: veth0\nNetworkDirection: {direction}\nTcPriority: 7\n"));
        let mut daemon = lab.daemon();
        if has_tcx() {
            assert_eq!(lab.tcx_programs("host", "veth0"), 1);
            assert!(!lab.sh("host", "tc qdisc show dev veth0").contains("clsact"));
        } else {
            let filters = lab.sh("host", &format!("tc filter show dev veth0 {}", direction.to_lowercase()));
            assert!(filters.contains("pref 7 bpf") && filters.contains("edns_"), "{filters}");
            assert_eq!(lab.filters("host", "veth0"), 1);
        }
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.wait(), Some(0));
        assert_eq!(lab.filters("host", "veth0"), 0);
    }
}
