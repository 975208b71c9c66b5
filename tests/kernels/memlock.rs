//! A user with a low limit of locked memory, which maps count against before Linux 5.11.

use edns::control::RUN_DIR;

use crate::lab::{Daemon, EDNS, Lab};
use crate::{is_at_least, lab};

const NOBODY: u32 = 65534;

/// Starts the daemon with a /run/edns of its own.
fn spawn(lab: &Lab, capabilities: &str) -> Daemon {
    std::fs::create_dir_all(RUN_DIR).unwrap();
    let script = format!(
        "mount -t tmpfs -o uid={NOBODY} tmpfs {RUN_DIR}; ulimit -l 64; exec setpriv --reuid {NOBODY} --regid {NOBODY} \
         --clear-groups --inh-caps {capabilities} --ambient-caps {capabilities} --bounding-set {capabilities} \
         {EDNS} --config {}",
        lab.path("config.yaml").display()
    );
    let mut command = lab.command("host", "unshare");
    command.args(["-m", "sh", "-ec", &script]);
    Daemon::of(lab, command)
}

#[test]
fn the_limit_of_locked_memory_is_raised_with_cap_sys_resource_or_named() {
    let lab = lab("Ifname: veth0\nNetworkDirection: Ingress\n");
    spawn(&lab, "-all,+bpf,+net_admin,+perfmon,+sys_resource").wait_for("ready");
    let mut without = spawn(&lab, "-all,+bpf,+net_admin,+perfmon");
    if is_at_least((5, 11)) {
        without.wait_for("ready");
    } else {
        assert_eq!(without.wait(), Some(1));
        assert!(without.log().contains("CAP_SYS_RESOURCE"), "{}", without.log());
    }
}
