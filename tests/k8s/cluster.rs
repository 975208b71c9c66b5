//! A control plane and CoreDNS in a network namespace, with the addresses that they have in a cluster.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::{Lab, fill, run, within};

/// Address of the Service kubernetes.
pub const API: &str = "10.96.0.1";
/// Address of the Service kube-dns.
pub const DNS: &str = "10.96.0.10";

/// The objects at the start.
const BASE: &str = include_str!("files/base.yaml");

pub struct Cluster {
    /// The control plane runs in its `host`.
    pub lab: Lab,
    bin: PathBuf,
    children: Mutex<Vec<(&'static str, Child)>>,
    nodes: AtomicU8,
}

impl Cluster {
    /// The cluster for tests that use Kubernetes namespaces of their own and leave the rest of it alone.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Self::new());
            *shared = Arc::downgrade(&cluster);
            cluster
        })
    }

    pub fn new() -> Self {
        let cluster = Self::without_dns();
        cluster.start_dns();
        cluster
    }

    /// Without a DNS server on the address of kube-dns.
    pub fn without_dns() -> Self {
        let bin = std::env::var_os("EDNS_K8S_TOOLS").expect("EDNS_K8S_TOOLS is set by make");
        let lab = Lab::new();
        for address in [API, DNS] {
            lab.ip("host", &format!("addr add {address}/32 dev lo"));
        }
        let cluster = Self { lab, bin: bin.into(), children: Mutex::default(), nodes: AtomicU8::new(0) };
        cluster.certificates();
        cluster.start_etcd();
        cluster.start_api();
        cluster.apply(BASE);
        cluster
    }

    fn start_dns(&self) {
        self.lab.write("Corefile", &fill(include_str!("files/Corefile"), &[("DNS", &DNS)]));
        self.start("coredns", &["-conf", "Corefile"]);
        within(60, "CoreDNS answers", || {
            let text = self.lab.dig_in("host", &format!("@{DNS} kubernetes.default.svc.cluster.local"));
            if text.contains("status: NOERROR") { Ok(()) } else { Err(text) }
        });
    }

    /// The number of the next node.
    pub fn next_node(&self) -> u8 {
        self.nodes.fetch_add(1, Ordering::Relaxed)
    }

    /// Creates a CA, certificates of the API server and of an administrator, and the key of service account tokens. A second
    /// call replaces the certificates.
    pub fn certificates(&self) {
        self.lab.sh("host", include_str!("files/certificates.sh"));
        let dir = self.lab.dir.display();
        let user = format!("client-certificate: {dir}/admin.crt, client-key: {dir}/admin.key");
        self.lab.write("kubeconfig", &self.kubeconfig(&user));
    }

    /// A kubeconfig with these credentials.
    pub fn kubeconfig(&self, user: &str) -> String {
        let dir = self.lab.dir.display();
        fill(include_str!("files/kubeconfig.yaml"), &[("API", &API), ("DIR", &dir), ("USER", &user)])
    }

    /// Starts one of the tools.
    pub fn start(&self, name: &'static str, args: &[&str]) {
        let log = File::options().append(true).create(true).open(self.lab.path(&format!("{name}.log"))).unwrap();
        let child = self
            .lab
            .command("host", self.bin.join(name).to_str().unwrap())
            .args(args)
            .current_dir(&self.lab.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.children.lock().unwrap().push((name, child));
    }

    /// Starts etcd with the data of its folder.
    pub fn start_etcd(&self) {
        self.start("etcd", &["--data-dir", "etcd", "--unsafe-no-fsync", "--log-level=error"]);
    }

    /// Starts the API server. Returns when it is ready.
    pub fn start_api(&self) {
        self.start(
            "kube-apiserver",
            &[
                "--etcd-servers=http://127.0.0.1:2379",
                "--secure-port=443",
                "--advertise-address=10.96.0.1",
                "--tls-cert-file=api.crt",
                "--tls-private-key-file=api.key",
                "--client-ca-file=ca.crt",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--service-account-key-file=sa.pub",
                "--service-account-signing-key-file=sa.key",
                "--authorization-mode=RBAC",
                "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/108",
                "--disable-admission-plugins=ServiceAccount",
                "--endpoint-reconciler-type=none",
                "--cert-dir=certs",
            ],
        );
        within(60, "the API server is ready", || {
            let output = self.kubectl(&["get", "--raw", "/readyz"]).output().unwrap();
            if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
        });
    }

    /// Kills the API server.
    pub fn kill_api(&self) {
        self.stop("kube-apiserver");
    }

    /// Kills one of the tools.
    pub fn stop(&self, name: &str) {
        let mut children = self.children.lock().unwrap();
        let at = children.iter().position(|(n, _)| *n == name).unwrap();
        let (_, mut child) = children.remove(at);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends a signal to one of the tools.
    pub fn signal(&self, name: &str, signal: Signal) {
        let children = self.children.lock().unwrap();
        let (_, child) = children.iter().find(|(n, _)| *n == name).unwrap();
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
    }

    /// Whether one of the tools still runs.
    pub fn runs(&self, name: &str) -> bool {
        let mut children = self.children.lock().unwrap();
        children.iter_mut().any(|(n, child)| *n == name && child.try_wait().unwrap().is_none())
    }

    pub fn kubectl(&self, args: &[&str]) -> Command {
        let mut command = self.lab.command("host", self.bin.join("kubectl").to_str().unwrap());
        command.args(["--kubeconfig", "kubeconfig"]).args(args).current_dir(&self.lab.dir);
        command
    }

    /// The output of kubectl.
    pub fn ask(&self, args: &[&str]) -> String {
        String::from_utf8_lossy(&run(&mut self.kubectl(args)).stdout).into_owned()
    }

    pub fn apply(&self, objects: &str) {
        static FILES: AtomicU8 = AtomicU8::new(0);
        let file = format!("objects-{}.yaml", FILES.fetch_add(1, Ordering::Relaxed));
        self.lab.write(&file, objects);
        run(&mut self.kubectl(&["apply", "-f", &file]));
    }

    pub fn delete(&self, what: &[&str]) {
        run(self.kubectl(&["delete", "--wait=false"]).args(what));
    }

    /// Creates a Kubernetes namespace.
    pub fn namespace(&self, name: &str) {
        self.apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n"));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let children = self.children.get_mut().unwrap_or_else(PoisonError::into_inner);
        if std::thread::panicking() {
            for (name, _) in &*children {
                let log = fs::read_to_string(self.lab.path(&format!("{name}.log"))).unwrap_or_default();
                eprintln!("--- {name}:\n{}", log.lines().rev().take(5).collect::<Vec<_>>().join("\n"));
            }
        }
        for (_, child) in children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
