//! Network namespaces with a daemon in one of them. Dropping a lab, also after a failure, ends its processes and deletes its
//! namespaces and files.
//!
//! `host` has `veth0` (10.77.0.1, fd77::1), where the daemon runs; its peer is `eth0` (10.77.0.2, fd77::2) in `pod`.

// Each test and benchmark is a crate of its own and uses a part of this.
#![allow(dead_code, unused_imports)]

mod daemon;
mod netns;
mod process;
mod refusing_server;
mod template;
mod wait;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::net::if_::if_nametoindex;

pub use daemon::Daemon;
pub use netns::{Handle, Netns, veth};
pub use process::{compile, run};
pub use refusing_server::{FLAG_QR, REFUSED, RefusingServer};
pub use template::fill;
pub use wait::{PATIENCE, until, within};

pub const EDNS: &str = env!("CARGO_BIN_EXE_edns");
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";
/// BTF of the running kernel, in a guest of tests/kernels whose kernel doesn't export it.
pub const RIGHT_BTF: &str = "/btf/right";
/// notcx.c as a library, in a guest of tests/kernels.
const NOTCX: &str = "/notcx.so";
pub const SERVER: &str = "10.77.0.1";
pub const SERVER6: &str = "fd77::1";

/// The static names that most tests use.
pub const DOMAINS: &str = include_str!("domain.yaml");
/// For [`Lab::open_kubeconfig`].
const OPEN_KUBECONFIG: &str = include_str!("open_kubeconfig.yaml");

static LABS: AtomicU32 = AtomicU32::new(0);

pub struct Lab {
    /// By their names in the lab.
    namespaces: Vec<(String, Netns)>,
    pub dir: PathBuf,
}

impl Lab {
    pub fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests create network namespaces: run them as root");
        let id = format!("{}-{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(format!("edns-{id}"));
        fs::create_dir_all(&dir).unwrap();
        let mut lab = Self { namespaces: Vec::new(), dir };
        lab.add("host");
        lab.add("pod");
        lab.veth(("host", "veth0"), ("pod", "eth0"));
        lab.ip("host", "addr add 10.77.0.1/24 dev veth0");
        lab.ip("host", "addr add fd77::1/64 dev veth0 nodad");
        lab.ip("pod", "addr add 10.77.0.2/24 dev eth0");
        lab.ip("pod", "addr add fd77::2/64 dev eth0 nodad");
        lab.ip("pod", "route add default via 10.77.0.1");
        lab.ip("pod", "-6 route add default via fd77::1");
        lab.write("domain.yaml", DOMAINS);
        lab.configure("Ifname: veth0\nNetworkDirection: Ingress\n");
        lab
    }

    /// Adds a namespace.
    pub fn add(&mut self, name: &str) {
        self.namespaces.push((name.to_owned(), Netns::new(name)));
    }

    pub fn netns(&self, name: &str) -> &Netns {
        let found = self.namespaces.iter().find(|(own, _)| own == name);
        &found.unwrap_or_else(|| panic!("no namespace {name} in this lab")).1
    }

    /// The name of a namespace on the machine.
    pub fn ns(&self, name: &str) -> &str {
        self.netns(name).name()
    }

    /// Creates a veth pair, both ends up.
    pub fn veth(&self, (ns, name): (&str, &str), (peer_ns, peer): (&str, &str)) {
        veth((self.netns(ns), name), (self.netns(peer_ns), peer));
    }

    /// Moves the servers' addresses to the namespace `far`. The pod's interface becomes a port of a bridge between pod and
    /// `far`: its frames are for another host.
    pub fn bridge(&mut self) {
        self.add("far");
        self.ip("host", "addr flush dev veth0");
        self.ip("host", "link add br0 type bridge");
        self.ip("host", "link set br0 up");
        self.ip("host", "link set veth0 master br0");
        self.veth(("host", "veth1"), ("far", "eth0"));
        self.ip("host", "link set veth1 master br0");
        self.ip("far", &format!("addr add {SERVER}/24 dev eth0"));
        self.ip("far", &format!("addr add {SERVER6}/64 dev eth0 nodad"));
    }

    /// Runs `ip` in a namespace, arguments separated by spaces.
    pub fn ip(&self, ns: &str, arguments: &str) {
        self.netns(ns).ip(arguments);
    }

    /// A command in a namespace.
    pub fn command(&self, ns: &str, program: &str) -> Command {
        self.netns(ns).command(program)
    }

    /// Runs a shell command in a namespace; returns what it printed on success.
    pub fn sh(&self, ns: &str, script: &str) -> String {
        let output = run(self.command(ns, "sh").args(["-ec", script]).current_dir(&self.dir));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Adds the rules of an nft file to a namespace.
    pub fn nft(&self, ns: &str, rules: &str) {
        self.write("rules.nft", rules);
        self.sh(ns, "nft -f rules.nft");
    }

    /// Whether a NETLINK_ROUTE socket in the daemon's namespace has lost messages (netlink(7)). Uses the shell only, which is
    /// all that a guest of tests/kernels has.
    pub fn has_lost_messages(&self) -> bool {
        let sockets = self.sh("host", "while read -r line; do echo \"$line\"; done </proc/net/netlink");
        let fields = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        // Columns: sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode. Eth is the protocol; 0 is NETLINK_ROUTE.
        fields.skip(1).any(|socket| socket[1] == "0" && socket[8] != "0")
    }

    /// Runs `dig` in the pod, with one try of a second.
    pub fn dig(&self, args: &str) -> String {
        self.dig_in("pod", args)
    }

    pub fn dig_in(&self, ns: &str, args: &str) -> String {
        let output = self.command(ns, "dig").args(["+tries=1", "+timeout=1"]).args(args.split(' ')).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    pub fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).unwrap();
    }

    /// Writes config.yaml: these lines, and ExtBTF in a guest whose kernel has no BTF.
    pub fn configure(&self, config: &str) {
        let btf = if Path::new(KERNEL_BTF).exists() { String::new() } else { format!("ExtBTF: {RIGHT_BTF}\n") };
        self.write("config.yaml", &format!("{btf}{config}"));
    }

    /// Writes a kubeconfig of an API server on this port of the daemon's host that asks for no credentials.
    pub fn open_kubeconfig(&self, file: &str, port: u16) {
        self.write(file, &fill(OPEN_KUBECONFIG, &[("PORT", &port)]));
    }

    /// Writes a kubeconfig of an API server that does not exist.
    pub fn dead_cluster(&self) {
        self.open_kubeconfig("kubeconfig", 1);
    }

    /// Starts the daemon in `host` with config.yaml and waits until it is ready.
    pub fn daemon(&self) -> Daemon {
        self.daemon_in("host")
    }

    pub fn daemon_in(&self, ns: &str) -> Daemon {
        let daemon = self.spawn(ns, "config.yaml");
        daemon.wait_for("ready");
        daemon
    }

    /// Starts the daemon.
    pub fn spawn(&self, ns: &str, config: &str) -> Daemon {
        self.spawn_with(ns, config, &[])
    }

    /// Starts the daemon with environment variables.
    pub fn spawn_with(&self, ns: &str, config: &str, vars: &[(&str, PathBuf)]) -> Daemon {
        self.spawn_program(EDNS, ns, config, vars)
    }

    /// Starts the daemon in `host` as on a kernel without tcx, and waits until it is ready.
    pub fn daemon_on_clsact(&self) -> Daemon {
        let daemon = self.spawn_on_clsact("config.yaml");
        daemon.wait_for("ready");
        daemon
    }

    pub fn spawn_on_clsact(&self, config: &str) -> Daemon {
        self.spawn_with("host", config, &[("LD_PRELOAD", self.notcx())])
    }

    /// The library that hides tcx from a daemon: a guest's, or compiled here.
    fn notcx(&self) -> PathBuf {
        if Path::new(NOTCX).exists() { NOTCX.into() } else { self.preloaded("notcx.c") }
    }

    /// Compiles a C file of tests/daemon to a library for LD_PRELOAD.
    pub fn preloaded(&self, source: &str) -> PathBuf {
        let library = self.path(source).with_extension("so");
        if !library.exists() {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemon").join(source);
            run(Command::new("gcc")
                .args(["-shared", "-fPIC", "-O1", "-Wall", "-o"])
                .arg(&library)
                .arg(source)
                .arg("-ldl"));
        }
        library
    }

    /// The ingress filters of an interface on clsact in their order, as tc prints them.
    pub fn chain(&self, ns: &str, ifname: &str) -> Vec<String> {
        let filters = self.sh(ns, &format!("tc filter show dev {ifname} ingress"));
        filters.lines().filter(|l| l.contains(" handle 0x")).map(str::to_owned).collect()
    }

    /// Starts a daemon from another path, for example of another version.
    pub fn spawn_program(&self, program: &str, ns: &str, config: &str, vars: &[(&str, PathBuf)]) -> Daemon {
        let mut command = self.command(ns, program);
        command.arg("--config").arg(self.path(config)).envs(vars.iter().map(|(k, v)| (k, v)));
        Daemon::of(self, command)
    }

    /// Runs a command of edns on the daemon with config.yaml.
    pub fn edns(&self, args: &[&str]) -> Output {
        Command::new(EDNS).args(args).arg("--config").arg(self.path("config.yaml")).output().unwrap()
    }

    /// The number of programs on the tcx hooks of an interface; 0 on a kernel without tcx.
    pub fn tcx_programs(&self, ns: &str, ifname: &str) -> usize {
        self.run_in(ns, || {
            let ifindex = if_nametoindex(ifname).unwrap() as i32;
            let hooks = [libbpf_sys::BPF_TCX_INGRESS, libbpf_sys::BPF_TCX_EGRESS];
            let count = |hook| {
                let mut opts = libbpf_sys::bpf_prog_query_opts {
                    sz: size_of::<libbpf_sys::bpf_prog_query_opts>() as _,
                    ..Default::default()
                };
                // SAFETY: opts lives through the call.
                let ret = unsafe { libbpf_sys::bpf_prog_query_opts(ifindex, hook, &raw mut opts) };
                assert!(ret == 0 || ret == -libc::EINVAL, "bpf_prog_query_opts: {ret}");
                // SAFETY: the call filled it in.
                (unsafe { opts.__bindgen_anon_1.prog_cnt }) as usize
            };
            hooks.into_iter().map(count).sum()
        })
    }

    /// Runs a closure in a namespace; see [`Netns::run`].
    pub fn run_in<R: Send>(&self, ns: &str, f: impl FnOnce() -> R + Send) -> R {
        self.netns(ns).run(f)
    }

    /// The number of filters on the clsact of an interface, eDNS' and others'.
    pub fn filters(&self, ns: &str, ifname: &str) -> usize {
        let show = |direction| self.sh(ns, &format!("tc filter show dev {ifname} {direction}"));
        (show("ingress") + &show("egress")).matches(" handle 0x").count()
    }

    /// How many queries had this outcome.
    pub fn count(&self, outcome: &str) -> u64 {
        self.counts(&[outcome])
    }

    /// How many queries had one of these outcomes.
    pub fn counts(&self, outcomes: &[&str]) -> u64 {
        let output = self.edns(&["stats", "--json"]);
        let stats: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let queries = stats["queries"].as_array().unwrap();
        let counted = |q: &&serde_json::Value| outcomes.contains(&q["outcome"].as_str().unwrap());
        queries.iter().filter(counted).map(|q| q["count"].as_u64().unwrap()).sum()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // First, because this kills the processes that use the folder.
        self.namespaces.clear();
        // Daemons that were killed leave their sockets.
        if let Ok(socket) = edns::control::socket_path(&self.path("config.yaml")) {
            let _ = fs::remove_file(socket);
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}
