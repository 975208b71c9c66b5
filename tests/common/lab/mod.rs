//! Network namespaces with a daemon among them; all is gone when it is dropped, also where a test fails.
//!
//! `host` has `veth0` (10.77.0.1, fd77::1), where the daemon runs; its peer is `eth0` (10.77.0.2, fd77::2) in `pod`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub const EDNS: &str = env!("CARGO_BIN_EXE_edns");
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";
/// Where tests/kernels puts a file of the kernel's BTF.
pub const RIGHT_BTF: &str = "/btf/right";
/// Where it puts the library that notcx.c makes.
const NOTCX: &str = "/notcx.so";
pub const SERVER: &str = "10.77.0.1";
pub const SERVER6: &str = "fd77::1";

/// What most tests ask for.
pub const DOMAINS: &str = r#"Domains:
  - Name: apis.example.org
    IP: 172.16.171.52
  - Name: db.example.org
    IP: [10.0.0.5, 10.0.0.6, "fd00::5"]
    TTL: 60
  - Name: "*.apps.example.org"
    IP: 10.0.0.9
  - Name: x.y.apps.example.org
    IP: 10.0.0.10
  - Name: all.example.org
    IP: 10.0.0.11
    Authoritative: true
"#;

static LABS: AtomicU32 = AtomicU32::new(0);

pub struct Lab {
    id: String,
    namespaces: Vec<String>,
    pub dir: PathBuf,
}

impl Lab {
    pub fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests make network namespaces: run them as root");
        let id = format!("{}-{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(format!("edns-{id}"));
        fs::create_dir_all(&dir).unwrap();
        let mut lab = Self { id, namespaces: Vec::new(), dir };
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

    /// The full name of a namespace.
    pub fn ns(&self, name: &str) -> String {
        format!("edns-{}-{name}", self.id)
    }

    pub fn add(&mut self, name: &str) {
        let ns = self.ns(name);
        run(Command::new("ip").args(["netns", "add", &ns]));
        self.namespaces.push(ns);
        self.ip(name, "link set lo up");
    }

    /// A veth pair, both ends up.
    pub fn veth(&self, (ns, name): (&str, &str), (peer_ns, peer): (&str, &str)) {
        self.ip(ns, &format!("link add {name} type veth peer name {peer} netns {}", self.ns(peer_ns)));
        self.ip(ns, &format!("link set {name} up"));
        self.ip(peer_ns, &format!("link set {peer} up"));
    }

    /// Puts the servers' addresses to `far`, behind a bridge that the pod's interface is a port of: frames for another host.
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

    /// `ip` in a namespace.
    pub fn ip(&self, ns: &str, args: &str) {
        run(Command::new("ip").args(["-n", &self.ns(ns)]).args(args.split(' ')));
    }

    /// A command in a namespace. Not by `ip netns exec`, which mounts another /sys.
    pub fn command(&self, ns: &str, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.ns(ns))).arg(program);
        command
    }

    /// Runs a shell command in a namespace; returns what it printed on success.
    pub fn sh(&self, ns: &str, script: &str) -> String {
        let output = run(self.command(ns, "sh").args(["-ec", script]).current_dir(&self.dir));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Whether a netlink socket of the daemon's namespace has lost messages of routes and interfaces (netlink(7)). Guests have
    /// a shell alone.
    pub fn has_lost_messages(&self) -> bool {
        let sockets = self.sh("host", "while read -r line; do echo \"$line\"; done </proc/net/netlink");
        let fields = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        // sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode; Eth 0 is NETLINK_ROUTE.
        fields.skip(1).any(|socket| socket[1] == "0" && socket[8] != "0")
    }

    /// `dig` in the pod; one try of a second.
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

    /// Writes config.yaml: these lines, and the BTF file of a guest whose kernel has none.
    pub fn configure(&self, config: &str) {
        let btf = if Path::new(KERNEL_BTF).exists() { String::new() } else { format!("ExtBTF: {RIGHT_BTF}\n") };
        self.write("config.yaml", &format!("{btf}{config}"));
    }

    /// Writes a kubeconfig of an API server that is not there.
    pub fn dead_cluster(&self) {
        self.write(
            "kubeconfig",
            "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]\n\
             users: [{name: a, user: {}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n",
        );
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

    /// A library that keeps a daemon from tcx: a guest's, or compiled here.
    fn notcx(&self) -> PathBuf {
        if Path::new(NOTCX).exists() { NOTCX.into() } else { self.preloaded("notcx.c") }
    }

    /// A library of one of this folder's C files, for LD_PRELOAD.
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

    /// The filters of an interface's ingress on clsact, in order, as tc shows them.
    pub fn chain(&self, ns: &str, ifname: &str) -> Vec<String> {
        let filters = self.sh(ns, &format!("tc filter show dev {ifname} ingress"));
        filters.lines().filter(|l| l.contains(" handle 0x")).map(str::to_owned).collect()
    }

    /// Starts a daemon that lies elsewhere, as another version may.
    pub fn spawn_program(&self, program: &str, ns: &str, config: &str, vars: &[(&str, PathBuf)]) -> Daemon {
        let mut command = self.command(ns, program);
        command.arg("--config").arg(self.path(config)).envs(vars.iter().map(|(k, v)| (k, v)));
        Daemon::of(self, command)
    }

    /// Runs a command of edns on the daemon with config.yaml.
    pub fn edns(&self, args: &[&str]) -> Output {
        Command::new(EDNS).args(args).arg("--config").arg(self.path("config.yaml")).output().unwrap()
    }

    /// How many programs there are on an interface's tcx hooks; 0 where the kernel has none.
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
                assert!(ret == 0 || ret == -libc::EINVAL, "asking for programs: {ret}");
                // SAFETY: filled by the call.
                (unsafe { opts.__bindgen_anon_1.prog_cnt }) as usize
            };
            hooks.into_iter().map(count).sum()
        })
    }

    /// Runs a closure in a namespace, on a thread of its own: what it opens there stays there.
    pub fn run_in<R: Send>(&self, ns: &str, f: impl FnOnce() -> R + Send) -> R {
        let netns = File::open(format!("/run/netns/{}", self.ns(ns))).unwrap();
        let enter_and_run = || {
            setns(&netns, CloneFlags::CLONE_NEWNET).unwrap();
            f()
        };
        std::thread::scope(|scope| scope.spawn(enter_and_run).join().unwrap_or_else(|e| std::panic::resume_unwind(e)))
    }

    /// How many filters there are on an interface's clsact, of ours and of others.
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
        for ns in &self.namespaces {
            // Whatever still runs there, servers of the test's among them.
            let pids = Command::new("ip").args(["netns", "pids", ns]).output().map(|o| o.stdout).unwrap_or_default();
            for pid in String::from_utf8_lossy(&pids).lines().filter_map(|p| p.trim().parse().ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let _ = Command::new("ip").args(["netns", "del", ns]).status();
        }
        // Of daemons that were killed.
        if let Ok(socket) = edns::control::socket_path(&self.path("config.yaml")) {
            let _ = fs::remove_file(socket);
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A daemon that is killed when this is dropped.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// MiB that it has taken at most.
    pub fn peak(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")).expect("a peak");
        peak.parse::<usize>().expect("a number") >> 10
    }

    /// Starts it by a command of any kind.
    pub fn of(lab: &Lab, mut command: Command) -> Self {
        static DAEMONS: AtomicU32 = AtomicU32::new(0);
        let log = lab.path(&format!("log-{}", DAEMONS.fetch_add(1, Ordering::Relaxed)));
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap()).spawn().unwrap();
        Self { child, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until the log has a line with this text.
    pub fn wait_for(&self, text: &str) {
        until(&format!("{text:?} in the log"), || {
            let log = self.log();
            log.lines().any(|l| l.contains(text)).then_some(()).ok_or(log)
        });
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Waits for its end; returns the exit status, None where a signal ended it.
    pub fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(PATIENCE);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the daemon does not end: {}", self.log());
            sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}:\n{}---", self.log.display(), self.log());
        }
    }
}

/// Seconds that nothing takes which works, on a loaded or emulated machine neither.
pub const PATIENCE: u64 = 60;

/// Tries until it is so, for as long as patience lasts.
pub fn until<T>(what: &str, check: impl FnMut() -> Result<T, String>) -> T {
    within(PATIENCE, what, check)
}

/// Tries until it is so, so many seconds at most.
pub fn within<T>(seconds: u64, what: &str, mut check: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        match check() {
            Ok(value) => return value,
            Err(e) if Instant::now() > deadline => panic!("not within {seconds} seconds: {what}; {e}"),
            Err(_) => sleep(Duration::from_millis(10)),
        }
    }
}

pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}; scripts/setup.sh installs it"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Compiles a C program of this folder with the glibc or musl compiler.
pub fn compile(compiler: &str, source: &str, out: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemon").join(source);
    run(Command::new(compiler).args(["-static", "-O1", "-Wall", "-o"]).arg(out).arg(source));
}
