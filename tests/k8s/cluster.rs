//! A control plane on the loopback of the lab's `host`, with CoreDNS on the address of the cluster's DNS service.

use std::cell::RefCell;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::lab::{Lab, run, until};

/// Of the Service kube-dns.
pub const DNS: &str = "10.96.0.10";
const PORT: u16 = 26443;

pub struct Cluster {
    pub lab: Lab,
    bin: PathBuf,
    children: RefCell<Vec<(&'static str, Child)>>,
}

impl Cluster {
    pub fn new() -> Self {
        let cluster = Self::without_dns();
        cluster.start_dns();
        cluster
    }

    /// Without a server on the address of the DNS service.
    pub fn without_dns() -> Self {
        let bin = std::env::var_os("EDNS_K8S_TOOLS").expect("EDNS_K8S_TOOLS is set by make");
        let lab = Lab::new();
        lab.ip("host", &format!("addr add {DNS}/32 dev lo"));
        let cluster = Self { lab, bin: bin.into(), children: RefCell::default() };
        cluster.certificates();
        cluster.start("etcd", &["--data-dir", "etcd", "--unsafe-no-fsync", "--log-level=error"]);
        cluster.start_api();
        cluster.apply(BASE);
        cluster.lab.write(
            "config.yaml",
            "EnableK8S: true\nKubeConfig: kubeconfig\nIfname: veth0\nNetworkDirection: Ingress\n",
        );
        cluster
    }

    fn start_dns(&self) {
        self.lab.write(
            "Corefile",
            &format!(
                ".:53 {{\n bind {DNS}\n kubernetes cluster.local in-addr.arpa ip6.arpa {{\n kubeconfig kubeconfig edns\n \
                 pods insecure\n ttl 30\n fallthrough in-addr.arpa ip6.arpa\n }}\n \
                 hosts {{\n 192.0.2.80 www.example.org\n fallthrough\n }}\n}}\n"
            ),
        );
        self.start("coredns", &["-conf", "Corefile"]);
        let answers = |text: String| if text.contains("status: NOERROR") { Ok(()) } else { Err(text) };
        until("CoreDNS answers", || {
            answers(self.lab.dig_in("host", &format!("@{DNS} kubernetes.default.svc.cluster.local")))
        });
    }

    /// A CA, a certificate for the API server and one for us, and a key for service accounts' tokens.
    fn certificates(&self) {
        self.lab.sh(
            "host",
            "ca='-CA ca.crt -CAkey ca.key -CAcreateserial -days 30'
             openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=ca -keyout ca.key -out ca.crt 2>/dev/null
             one() {
                 openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj \"$2\" -keyout $1.key -out $1.csr 2>/dev/null
                 echo \"$3\" >$1.ext
                 openssl x509 -req -in $1.csr $ca -extfile $1.ext -out $1.crt 2>/dev/null
             }
             one api /CN=kube-apiserver 'subjectAltName=DNS:localhost,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.96.0.1'
             one admin /O=system:masters/CN=admin extendedKeyUsage=clientAuth
             openssl genrsa -out sa.key 2048 2>/dev/null
             openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null",
        );
        let dir = self.lab.dir.display();
        self.lab.write(
            "kubeconfig",
            &format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: edns\n\
                 clusters: [{{name: edns, cluster: {{server: 'https://127.0.0.1:{PORT}', certificate-authority: {dir}/ca.crt}}}}]\n\
                 users: [{{name: admin, user: {{client-certificate: {dir}/admin.crt, client-key: {dir}/admin.key}}}}]\n\
                 contexts: [{{name: edns, context: {{cluster: edns, user: admin}}}}]\n"
            ),
        );
    }

    fn start(&self, name: &'static str, args: &[&str]) {
        let log = File::create(self.lab.path(&format!("{name}.log"))).unwrap();
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
        self.children.borrow_mut().push((name, child));
    }

    /// Starts the API server, and returns when it is ready.
    pub fn start_api(&self) {
        let port = format!("--secure-port={PORT}");
        self.start(
            "kube-apiserver",
            &[
                "--etcd-servers=http://127.0.0.1:2379",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                &port,
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
        until("the API server is ready", || {
            let output = self.kubectl(&["get", "--raw", "/readyz"]).output().unwrap();
            if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
        });
    }

    /// Ends it as a crash does.
    pub fn kill_api(&self) {
        let mut children = self.children.borrow_mut();
        let at = children.iter().position(|(name, _)| *name == "kube-apiserver").unwrap();
        let (_, mut child) = children.remove(at);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn kubectl(&self, args: &[&str]) -> Command {
        let mut command = self.lab.command("host", self.bin.join("kubectl").to_str().unwrap());
        command.args(["--kubeconfig", "kubeconfig"]).args(args).current_dir(&self.lab.dir);
        command
    }

    pub fn apply(&self, objects: &str) {
        self.lab.write("objects.yaml", objects);
        run(&mut self.kubectl(&["apply", "-f", "objects.yaml"]));
    }

    pub fn delete(&self, what: &[&str]) {
        run(self.kubectl(&["delete", "--wait=false"]).args(what));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (name, _) in self.children.get_mut() {
                let log = fs::read_to_string(self.lab.path(&format!("{name}.log"))).unwrap_or_default();
                eprintln!("--- {name}:\n{}", log.lines().rev().take(5).collect::<Vec<_>>().join("\n"));
            }
        }
        for (_, child) in self.children.get_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A Service or slice of each shape.
const BASE: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec: {clusterIP: 10.96.0.10, ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.50, ports: [{name: http, port: 80}, {name: https, port: 443}]}
---
apiVersion: v1
kind: Service
metadata: {name: dual}
spec: {ipFamilyPolicy: RequireDualStack, clusterIP: 10.96.0.51, clusterIPs: [10.96.0.51, 'fd00:10:96::51'], ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, ports: [{name: pg, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-a, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
endpoints:
  - {addresses: [10.244.0.5], hostname: db-0}
  - {addresses: [10.244.0.6], hostname: db-1}
  - {addresses: [10.244.0.7]}
  - {addresses: [10.244.0.8], conditions: {ready: false}}
ports: [{name: pg, port: 5432}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-b, labels: {kubernetes.io/service-name: db}}
addressType: IPv6
endpoints: [{addresses: ['fd00:244::5'], hostname: db-0}, {addresses: ['fd00:244::']}]
ports: [{name: pg, port: 5432}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-a, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.244.1.5]}, {addresses: [10.244.1.6]}]
ports: [{name: http, port: 8000}]
---
apiVersion: v1
kind: Service
metadata: {name: none}
spec: {clusterIP: None, ports: [{name: x, port: 1}]}
---
apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: web.default.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: alias2}
spec: {type: ExternalName, externalName: alias.default.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {type: ExternalName, externalName: www.example.org}
---
apiVersion: v1
kind: Service
metadata: {name: dangling}
spec: {type: ExternalName, externalName: nobody.default.svc.cluster.local}
---
apiVersion: v1
kind: Namespace
metadata: {name: team}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: team}
spec: {clusterIP: 10.96.0.60, ports: [{name: grpc, port: 9000}]}
"#;
