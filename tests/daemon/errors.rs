//! Errors at the start name the cause and the way out, and have the right exit status.

use std::fs;
use std::process::Command;

use crate::lab::{Daemon, EDNS, Lab, run};

/// Starts the daemon, which has to fail. Returns exit status and log.
fn fail(lab: &Lab) -> (Option<i32>, String) {
    let mut daemon = lab.spawn("host", "config.yaml");
    (daemon.wait(), daemon.log())
}

#[test]
fn an_interface_that_does_not_exist() {
    let lab = Lab::new();
    lab.write("config.yaml", "Ifname: eth7\n");
    let (status, log) = fail(&lab);
    assert_eq!(status, Some(1), "{log}");
    assert!(log.contains("no interface eth7 exists; the interfaces are: lo, veth0"), "{log}");
    lab.write("config.yaml", "");
    let (status, log) = fail(&lab);
    assert_eq!(status, Some(1), "{log}");
    assert!(log.contains("Ifname is empty, and no default route exists"), "{log}");
}

#[test]
fn mistakes_in_the_files_are_exit_status_2() {
    let lab = Lab::new();
    for (file, text, wanted) in [
        ("config.yaml", "Ifname: veth0\nNope: 1\n", "config.yaml:2:1:"),
        ("config.yaml", "Ifname: [veth0\n", "config.yaml:"),
        ("domain.yaml", "Domains:\n  - Name: a\n    IP: x\n", "domain.yaml:3:9: a: \"x\" is no IP address"),
    ] {
        let before = fs::read_to_string(lab.path(file)).unwrap();
        lab.write(file, text);
        let (status, log) = fail(&lab);
        assert_eq!(status, Some(2), "{log}");
        assert!(log.contains(wanted), "{log}");
        let check = lab.edns(&["check"]);
        assert_eq!(check.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&check.stderr).contains(wanted), "{check:?}");
        lab.write(file, &before);
    }
    fs::remove_file(lab.path("config.yaml")).unwrap();
    let (status, log) = fail(&lab);
    assert_eq!(status, Some(2), "{log}");
    assert!(log.contains("config.yaml: No such file"), "{log}");
}

#[test]
fn a_file_of_absurd_size_is_refused() {
    let lab = Lab::new();
    for file in ["config.yaml", "domain.yaml"] {
        lab.sh("host", &format!("cp {file} kept; truncate -s 3G {file}"));
        let wanted = format!("{file}: is too large: 3221225472 bytes, the maximum is 134217728 (128 MiB)");
        let (status, log) = fail(&lab);
        assert!(status == Some(2) && log.contains(&wanted), "{status:?} {log}");
        let check = lab.edns(&["check"]);
        assert!(
            check.status.code() == Some(2) && String::from_utf8_lossy(&check.stderr).contains(&wanted),
            "{check:?}"
        );
        lab.sh("host", &format!("mv kept {file}"));
    }
}

#[test]
fn check_says_whether_the_domain_file_exists() {
    let lab = Lab::new();
    let check = || {
        let check = lab.edns(&["check"]);
        (check.status.code(), String::from_utf8([check.stdout, check.stderr].concat()).unwrap())
    };
    let (config, domain) = (lab.path("config.yaml"), lab.path("domain.yaml"));
    assert_eq!(check(), (Some(0), format!("{}: fine, 5 static names\n", config.display())));
    fs::remove_file(&domain).unwrap();
    let wanted = format!("{}: fine, no static names: {} does not exist\n", config.display(), domain.display());
    assert_eq!(check(), (Some(0), wanted));
    lab.write("config.yaml", "DomainFile: domain.yaml\n");
    let (status, text) = check();
    assert!(status == Some(2) && text.contains("domain.yaml: No such file"), "{text}");
}

#[test]
fn check_warns_of_a_last_line_without_newline() {
    let lab = Lab::new();
    let hint = |lab: &Lab| -> Vec<String> {
        let check = lab.edns(&["check"]);
        assert_eq!(check.status.code(), Some(0), "{check:?}");
        let out = String::from_utf8(check.stdout).unwrap();
        out.lines()
            .filter_map(|l| l.split_once(": its last line has no newline"))
            .map(|(path, _)| path.to_owned())
            .collect()
    };
    let path = |file: &str| lab.path(file).display().to_string();
    assert!(hint(&lab).is_empty());
    lab.write("config.yaml", "Ifname: veth0");
    lab.write("domain.yaml", "Domains: []");
    assert_eq!(hint(&lab), [path("config.yaml"), path("domain.yaml")]);
    // A ConfigMap changes as a whole.
    lab.sh("host", "mkdir ..v1; mv domain.yaml ..v1; ln -s ..v1 ..data; ln -s ..data/domain.yaml domain.yaml");
    assert_eq!(hint(&lab), [path("config.yaml")]);
}

#[test]
fn a_kernel_that_is_too_old() {
    let lab = Lab::new();
    let mut command = lab.command("host", "setarch");
    command.args(["--uname-2.6", EDNS, "--config"]).arg(lab.path("config.yaml"));
    let mut daemon = Daemon::of(&lab, command);
    let (status, log) = (daemon.wait(), daemon.log());
    assert_eq!(status, Some(1), "{log}");
    assert!(log.contains("Linux 2.6.") && log.contains("is too old: 5.10 or newer is needed"), "{log}");
}

#[test]
fn no_privilege() {
    let lab = Lab::new();
    let output = lab
        .command("host", "setpriv")
        .args(["--bounding-set", "-all", "--inh-caps", "-all", EDNS, "--config"])
        .arg(lab.path("config.yaml"))
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"), "{log}");
}

/// Starts the daemon under a /sys without the kernel's BTF.
fn without_btf(lab: &Lab) -> Daemon {
    let mut command = lab.command("host", "unshare");
    let script =
        format!("mount -t tmpfs none /sys/kernel/btf && exec {EDNS} --config {}", lab.path("config.yaml").display());
    command.args(["-m", "sh", "-ec", &script]);
    Daemon::of(lab, command)
}

#[test]
fn a_kernel_without_btf_needs_ext_btf() {
    let lab = Lab::new();
    let mut daemon = without_btf(&lab);
    assert_eq!(daemon.wait(), Some(1));
    let log = daemon.log();
    assert!(log.contains("this kernel has no BTF") && log.contains("set ExtBTF"), "{log}");

    fs::copy("/sys/kernel/btf/vmlinux", lab.path("right.btf")).unwrap();
    lab.write("config.yaml", "ExtBTF: right.btf\nIfname: veth0\nNetworkDirection: Ingress\n");
    without_btf(&lab).wait_for("ready");
}

#[test]
fn a_file_that_is_not_the_btf_of_this_kernel() {
    let lab = Lab::new();
    lab.write("config.yaml", "ExtBTF: none.btf\nIfname: veth0\n");
    let (status, log) = fail(&lab);
    assert_eq!(status, Some(1), "{log}");
    assert!(log.contains("ExtBTF:") && log.contains("none.btf: No such file"), "{log}");

    lab.write("none.btf", "this is no BTF");
    let (status, log) = fail(&lab);
    assert_eq!(status, Some(1), "{log}");
    assert!(log.contains("none.btf: not a BTF file"), "{log}");

    // BTF of another kernel: like this one's, but with another offset of an interface's mtu.
    fs::write(lab.path("none.btf"), btf_with_moved_member("net_device", "mtu")).unwrap();
    let (status, log) = fail(&lab);
    assert_eq!(status, Some(1), "{log}");
    assert!(log.contains("none.btf is not the BTF of this kernel"), "{log}");
}

/// The kernel's BTF with another offset of one struct member (`struct btf_type`, `struct btf_member` in linux/btf.h).
fn btf_with_moved_member(of: &str, member: &str) -> Vec<u8> {
    let mut btf = fs::read("/sys/kernel/btf/vmlinux").unwrap();
    let word = |btf: &[u8], at: usize| u32::from_le_bytes(btf[at..at + 4].try_into().unwrap());
    let header = word(&btf, 4) as usize;
    let (types, types_len, strings) =
        (header + word(&btf, 8) as usize, word(&btf, 12) as usize, header + word(&btf, 16) as usize);
    let name = |btf: &[u8], at: u32| {
        let text = &btf[strings + at as usize..];
        String::from_utf8_lossy(&text[..text.iter().position(|b| *b == 0).unwrap()]).into_owned()
    };
    let mut at = types;
    while at < types + types_len {
        let (info, found) = (word(&btf, at + 4), name(&btf, word(&btf, at)));
        let (kind, members) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        at += 12;
        if kind == 4 && found == of {
            for m in (0..members).map(|m| at + m * 12) {
                if name(&btf, word(&btf, m)) == member {
                    let moved = word(&btf, m + 8) + 64;
                    btf[m + 8..m + 12].copy_from_slice(&moved.to_le_bytes());
                    return btf;
                }
            }
        }
        at += match kind {
            1 | 14 | 17 => 4,                // INT, VAR, DECL_TAG
            3 => 12,                         // ARRAY
            4 | 5 | 15 | 19 => members * 12, // STRUCT, UNION, DATASEC, ENUM64
            6 | 13 => members * 8,           // ENUM, FUNC_PROTO
            _ => 0,
        };
    }
    panic!("no {of}.{member} in the kernel's BTF");
}

#[test]
fn usage_errors_are_exit_status_2_and_help_suffices() {
    let output = Command::new(EDNS).arg("--nope").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let help = run(Command::new(EDNS).arg("--help"));
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for command in ["run", "check", "lookup", "records", "stats", "completions", "--config", "Exit status"] {
        assert!(help.contains(command), "{command}: {help}");
    }
    // No config can be found.
    let script = format!("mkdir -p /etc/edns && mount -t tmpfs none /etc/edns && cd /tmp && exec {EDNS} check");
    let output = Command::new("unshare").args(["-m", "sh", "-ec", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--config FILE"), "{output:?}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(!run(Command::new(EDNS).args(["completions", shell])).stdout.is_empty());
    }
}
