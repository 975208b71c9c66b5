//! The daemon with the least privileges: those that it is given, and those that it keeps.

use std::fs;
use std::process::Command;

use crate::lab::{Daemon, EDNS, Lab, SERVER, until};

const NEEDED: &str = "-all,+bpf,+net_admin,+perfmon";
/// CAP_DAC_OVERRIDE, CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_PERFMON and CAP_BPF.
const KEPT: u64 = 1 << 1 | 1 << 10 | 1 << 12 | 1 << 38 | 1 << 39;
const NOBODY: u32 = 65534;

/// Starts the daemon by `setpriv`, with a /run/edns of its own and a program file that every user can reach.
fn spawn(lab: &Lab, owner: u32, setpriv: &str) -> Daemon {
    let setup = format!(
        "mount -t tmpfs tmpfs /run; install -d -o {owner} /run/edns; mount --bind {EDNS} edns; \
         exec setpriv {setpriv} $PWD/edns --config config.yaml"
    );
    lab.write("edns", "");
    let mut command = lab.command("host", "unshare");
    command.args(["-m", "sh", "-ec", &setup]).current_dir(&lab.dir);
    Daemon::of(lab, command)
}

/// Options of `setpriv` for a user with these capabilities only.
fn by_anybody(capabilities: &str) -> String {
    format!(
        "--reuid {NOBODY} --regid {NOBODY} --clear-groups --inh-caps {capabilities} --ambient-caps {capabilities} \
         --bounding-set {capabilities}"
    )
}

/// Checks that it answers on the first interface and on one that is created later, and that it can load further programs.
fn works(lab: &Lab, daemon: &Daemon) {
    daemon.wait_for("ready");
    let answer = |args: &str| lab.dig(&format!("{args} +short apis.example.org"));
    assert_eq!(answer(&format!("@{SERVER}")), "172.16.171.52");
    lab.veth(("host", "veth1"), ("pod", "eth1"));
    lab.ip("host", "addr add 10.78.0.1/24 dev veth1");
    lab.ip("pod", "addr add 10.78.0.2/24 dev eth1");
    until("an answer on the new interface", || match answer("@10.78.0.1").as_str() {
        "172.16.171.52" => Ok(()),
        other => Err(format!("{other}\n{}", daemon.log())),
    });
    // The probe program is loaded for the first lookup.
    let lookup = Command::new("nsenter")
        .args([&format!("--mount=/proc/{}/ns/mnt", daemon.pid()), EDNS, "lookup", "apis.example.org", "--config"])
        .arg(lab.path("config.yaml"))
        .output()
        .unwrap();
    assert!(lookup.status.success(), "{lookup:?}");
}

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("config.yaml", "Ifname: veth*\nNetworkDirection: Ingress\n");
    lab
}

#[test]
fn three_capabilities_are_enough_for_any_user() {
    let lab = lab();
    let daemon = spawn(&lab, NOBODY, &by_anybody(NEEDED));
    works(&lab, &daemon);
}

#[test]
fn three_capabilities_are_enough_for_root_in_a_container() {
    let lab = lab();
    let daemon = spawn(&lab, 0, &format!("--no-new-privs --inh-caps -all --bounding-set {NEEDED}"));
    works(&lab, &daemon);
}

#[test]
fn root_drops_unneeded_capabilities_in_every_thread() {
    let lab = lab();
    let daemon = spawn(&lab, 0, "");
    daemon.wait_for("ready");
    let mut threads = 0;
    for task in fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
            assert_eq!(field(set), KEPT, "{set} {status}");
        }
        assert_eq!((field("CapInh:"), field("CapAmb:"), field("NoNewPrivs:")), (0, 0, 1), "{status}");
        threads += 1;
    }
    assert!(threads > 1, "the event loop and a watcher of files at least");
    works(&lab, &daemon);
}

#[test]
fn errors_name_the_missing_privilege() {
    let lab = lab();
    let mut daemon = spawn(&lab, NOBODY, &by_anybody("-all"));
    assert_eq!(daemon.wait(), Some(1));
    assert!(daemon.log().contains("CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"), "{}", daemon.log());

    let mut daemon = spawn(&lab, 0, &by_anybody(NEEDED));
    assert_eq!(daemon.wait(), Some(1));
    assert!(daemon.log().contains("give /run/edns to"), "{}", daemon.log());

    // The control socket belongs to the daemon's user.
    let daemon = lab.daemon();
    let script =
        format!("mount --bind {EDNS} edns; exec setpriv {} $PWD/edns stats --config config.yaml", by_anybody("-all"));
    let stats =
        lab.command("host", "unshare").args(["-m", "sh", "-ec", &script]).current_dir(&lab.dir).output().unwrap();
    assert_eq!(stats.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&stats.stderr).contains("run as root"), "{stats:?}");
    drop(daemon);
}
