//! Sources of the kernel's BTF.

use crate::common::packet::{Query, TYPE_A};
use crate::lab::{KERNEL_BTF, Lab, RIGHT_BTF, SERVER};
use crate::sockets::{Client, Reply};

/// BTF of another kernel.
const WRONG_BTF: &str = "/btf/wrong";

/// Starts the daemon with this ExtBTF. Returns whether it got ready, and the log.
fn starts(lab: &Lab, ext_btf: &str) -> (bool, String) {
    lab.write("config.yaml", &format!("ExtBTF: {ext_btf}\nIfname: veth0\nNetworkDirection: Ingress\n"));
    let mut daemon = lab.spawn("host", "config.yaml");
    let is_ready = crate::lab::until("ready or an error", || {
        let log = daemon.log();
        if log.contains("ready") {
            Ok(true)
        } else if log.contains("ERROR") {
            Ok(false)
        } else {
            Err(log)
        }
    });
    if is_ready {
        let client = Client::new(lab, "pod", SERVER);
        let reply = client.ask(&Query::new("apis.example.org", TYPE_A));
        assert!(matches!(reply, Ok(Reply::Edns(..))), "{reply:?}");
    } else {
        assert_eq!(daemon.wait(), Some(1));
    }
    (is_ready, daemon.log())
}

#[test]
fn of_the_kernel_or_of_a_file() {
    let lab = Lab::new();
    let has_btf = std::path::Path::new(KERNEL_BTF).exists();
    let (is_ready, log) = starts(&lab, "");
    assert_eq!(is_ready, has_btf, "{log}");
    if has_btf {
        let (is_ready, log) = starts(&lab, KERNEL_BTF);
        assert!(is_ready, "{log}");
        return;
    }
    assert!(log.contains("this kernel has no BTF") && log.contains("set ExtBTF"), "{log}");
    let (is_ready, log) = starts(&lab, WRONG_BTF);
    assert!(!is_ready && log.contains("is not the BTF of this kernel"), "{log}");
    let (is_ready, log) = starts(&lab, RIGHT_BTF);
    assert!(is_ready, "{log}");
}
