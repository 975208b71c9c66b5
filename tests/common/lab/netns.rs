//! Network namespaces of a test's own, gone with it.

use std::fs::File;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A network namespace with a name that no other test has; deleted on drop, with the interfaces in it.
pub struct Netns {
    name: String,
}

impl Netns {
    pub fn new(role: &str) -> Self {
        let name = format!("edns-{}-{}-{role}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        run("ip", &["netns", "add", &name]);
        let netns = Self { name };
        // No packets but the test's own: neither duplicate address detection nor router solicitation nor bridged frames
        // that iptables trims.
        netns.sysctl("net/ipv6/conf/default/accept_dad", "0");
        netns.sysctl("net/ipv6/conf/default/router_solicitations", "0");
        netns.sysctl("net/ipv6/conf/default/addr_gen_mode", "1");
        for table in ["iptables", "ip6tables", "arptables"] {
            netns.sysctl_if_there(&format!("net/bridge/bridge-nf-call-{table}"), "0");
        }
        netns.ip("link set lo up");
        netns
    }

    /// Runs `ip` on it, arguments separated by spaces.
    pub fn ip(&self, arguments: &str) {
        let mut all = vec!["-n", &self.name];
        all.extend(arguments.split(' '));
        run("ip", &all);
    }

    /// Runs a command in it. Not by `ip netns exec`, which mounts another /sys.
    pub fn exec(&self, command: &str) {
        let netns = format!("--net=/run/netns/{}", self.name);
        let mut all = vec![netns.as_str()];
        all.extend(command.split(' '));
        run("nsenter", &all);
    }

    pub fn sysctl(&self, path: &str, value: &str) {
        let file = format!("/proc/sys/{path}");
        self.run(|| std::fs::write(&file, value)).unwrap_or_else(|e| panic!("{file}: {e}"));
    }

    fn sysctl_if_there(&self, path: &str, value: &str) {
        let file = format!("/proc/sys/{path}");
        self.run(|| if std::path::Path::new(&file).exists() { std::fs::write(&file, value) } else { Ok(()) })
            .unwrap_or_else(|e| panic!("{file}: {e}"));
    }

    /// Runs a closure in it, on a thread of its own: what it opens there stays there.
    pub fn run<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        std::thread::scope(|s| {
            let thread = s.spawn(|| {
                self.enter();
                f()
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Moves the calling thread into it.
    pub fn enter(&self) {
        let file = File::open(format!("/run/netns/{}", self.name)).expect("the namespace");
        setns(file, CloneFlags::CLONE_NEWNET).expect("setns");
    }

    pub fn ifindex(&self, interface: &str) -> i32 {
        self.run(|| nix::net::if_::if_nametoindex(interface)).unwrap_or_else(|e| panic!("{interface}: {e}")) as i32
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).stderr(Stdio::null()).status();
    }
}

/// A veth pair with an end in each of two namespaces, both up.
pub fn veth(a: (&Netns, &str), b: (&Netns, &str)) {
    a.0.ip(&format!("link add {} type veth peer name {} netns {}", a.1, b.1, b.0.name));
    a.0.ip(&format!("link set {} up", a.1));
    b.0.ip(&format!("link set {} up", b.1));
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|e| panic!("{program}, which this test needs: {e}"));
    assert!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
}
