//! Objects that show how far a server is. Watch events of a kind arrive in order, so a server that shows the last mark of each
//! kind has seen everything that was written before.

use serde_json::json;

use crate::writer::{Write, Writer};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

/// The names that show the marks: an ExternalName Service, a headless Service with one slice, and a namespace.
pub const ALIAS: &str = "marker.default.svc.cluster.local";
pub const SLICE: &str = "marks.default.svc.cluster.local";
pub const NAMESPACE: &str = "marker.svc.cluster.local";

/// The number of the last marks.
#[derive(Default)]
pub struct Marks(u16);

/// What a server shows that has seen the marks.
pub struct Shown {
    /// The target of the alias.
    pub target: String,
    /// The address of the slice.
    pub address: [u8; 4],
    /// Whether the namespace exists.
    pub has_namespace: bool,
}

impl Marks {
    pub const fn number(&self) -> u16 {
        self.0
    }

    /// Writes a mark of each kind.
    pub fn write(&mut self, writer: &Writer) -> Shown {
        self.0 = self.0.wrapping_add(1);
        let [high, low] = self.0.to_be_bytes();
        // The namespace exists every other time.
        let (has_namespace, is_first) = (self.0 % 2 == 1, self.0 == 1);
        let headless = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "marks"},
            "spec": {"clusterIP": "None", "ports": [{"port": 80}]}});
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "marks", "labels": {"kubernetes.io/service-name": "marks"}},
            "endpoints": [{"addresses": [format!("10.250.{high}.{low}")]}], "ports": [{"port": 80}]});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "marker"}});
        let writes = [
            is_first.then(|| Write { path: format!("{SERVICES}/marks"), object: Some(headless) }),
            Some(Write { path: format!("{SLICES}/marks"), object: Some(slice) }),
            Some(Write { path: "/api/v1/namespaces/marker".into(), object: has_namespace.then_some(namespace) }),
        ];
        for write in writes.into_iter().flatten() {
            writer.write(&write).expect("a mark");
        }
        Shown { target: self.write_alias(writer, "m"), address: [10, 250, high, low], has_namespace }
    }

    /// Writes the alias once more. Changes that arrived with a mark may be written to the maps after it; those that arrive now
    /// are written after all of them. Returns its target.
    pub fn write_alias(&self, writer: &Writer, prefix: &str) -> String {
        let target = format!("{prefix}{}.example.org", self.0);
        let alias = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "marker"},
            "spec": {"type": "ExternalName", "externalName": target}});
        writer.write(&Write { path: format!("{SERVICES}/marker"), object: Some(alias) }).expect("a mark");
        target
    }
}
