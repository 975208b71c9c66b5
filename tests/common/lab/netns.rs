//! Network namespaces. No other module of the tests and benchmarks creates or enters one.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::run;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A network namespace. Dropping it, also after a failure, kills the processes in it and deletes it with its interfaces.
pub struct Netns {
    name: String,
}

impl Netns {
    /// Creates a namespace with the kernel's default settings and lo up. The name contains the role and is unique.
    pub fn new(role: &str) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "network namespaces need root: run this as root");
        static CLEAN_UP: Once = Once::new();
        CLEAN_UP.call_once(remove_abandoned);
        let name = format!("edns-{}-{}-{role}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        run(Command::new("ip").args(["netns", "add", &name]));
        let netns = Self { name };
        netns.ip("link set lo up");
        netns
    }

    /// Creates a namespace that sends nothing on its own: no duplicate address detection and no router solicitations. Bridges
    /// don't hand frames to iptables, which trims them.
    pub fn quiet(role: &str) -> Self {
        let netns = Self::new(role);
        netns.sysctl("net/ipv6/conf/default/accept_dad", "0");
        netns.sysctl("net/ipv6/conf/default/router_solicitations", "0");
        netns.sysctl("net/ipv6/conf/default/addr_gen_mode", "1");
        for table in ["iptables", "ip6tables", "arptables"] {
            netns.sysctl_if_exists(&format!("net/bridge/bridge-nf-call-{table}"), "0");
        }
        netns
    }

    /// The name in /run/netns.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` on it, arguments separated by spaces.
    pub fn ip(&self, arguments: &str) {
        run(Command::new("ip").args(["-n", &self.name]).args(arguments.split(' ')));
    }

    /// A command in it. Not by `ip netns exec`, which mounts another /sys.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg(program);
        command
    }

    /// Runs a command in it, arguments separated by spaces.
    pub fn exec(&self, command: &str) {
        let mut words = command.split(' ');
        let program = words.next().expect("a program");
        run(self.command(program).args(words));
    }

    pub fn sysctl(&self, path: &str, value: &str) {
        let file = format!("/proc/sys/{path}");
        self.run(|| std::fs::write(&file, value)).unwrap_or_else(|e| panic!("{file}: {e}"));
    }

    fn sysctl_if_exists(&self, path: &str, value: &str) {
        let file = format!("/proc/sys/{path}");
        self.run(|| if Path::new(&file).exists() { std::fs::write(&file, value) } else { Ok(()) })
            .unwrap_or_else(|e| panic!("{file}: {e}"));
    }

    /// Runs a closure in it, on a thread of its own: sockets that the closure opens stay in the namespace.
    pub fn run<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter();
                f()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread into it.
    pub fn enter(&self) {
        self.handle().enter();
    }

    /// For a thread that lives longer than a borrow of this.
    pub fn handle(&self) -> Handle {
        Handle(File::open(self.path()).unwrap_or_else(|e| panic!("{}: {e}", self.path())))
    }

    pub fn ifindex(&self, interface: &str) -> i32 {
        self.run(|| nix::net::if_::if_nametoindex(interface)).unwrap_or_else(|e| panic!("{interface}: {e}")) as i32
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let pids = Command::new("ip").args(["netns", "pids", &self.name]).stderr(Stdio::null()).output();
        let pids = pids.map(|output| output.stdout).unwrap_or_default();
        for pid in String::from_utf8_lossy(&pids).lines().filter_map(|pid| pid.trim().parse().ok()) {
            // A thread of the test itself may be in it, for example the main thread of a benchmark.
            if pid != std::process::id() as i32 {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        let _ = Command::new("ip").args(["netns", "del", &self.name]).stderr(Stdio::null()).status();
    }
}

/// Removes the namespaces of tests and benchmarks that were killed before they could.
fn remove_abandoned() {
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let pid = name.strip_prefix("edns-").and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            drop(Netns { name });
        }
    }
}

/// An open file descriptor of a network namespace.
pub struct Handle(File);

impl Handle {
    /// Moves the calling thread into the namespace.
    pub fn enter(&self) {
        setns(&self.0, CloneFlags::CLONE_NEWNET).expect("setns");
    }
}

/// Creates a veth pair with an end in each of two namespaces, both up.
pub fn veth((netns, name): (&Netns, &str), (peer_netns, peer): (&Netns, &str)) {
    netns.ip(&format!("link add {name} type veth peer name {peer} netns {}", peer_netns.name()));
    netns.ip(&format!("link set {name} up"));
    peer_netns.ip(&format!("link set {peer} up"));
}
