//! Objects that tell how far a server is: what is watched of each kind comes in order, so who shows the last marker of each
//! kind has seen all that was written before.

use std::time::Duration;

use hickory_proto::rr::RecordType::{A, CNAME};
use serde_json::json;

use crate::client::Client;
use crate::lab::within;
use crate::writer::{Write, Writer};

/// Seconds that news takes at most: the longest wait before a list, twice, and what a busy machine takes.
const PATIENCE: u64 = 120;

/// The number of the last ones.
#[derive(Default)]
pub struct Markers(u16);

impl Markers {
    /// One of each kind, with the next number.
    pub fn write(&mut self, writer: &Writer) {
        self.0 += 1;
        let number = self.0;
        let [high, low] = number.to_be_bytes();
        let services = "/api/v1/namespaces/default/services";
        let alias = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "marker"},
            "spec": {"type": "ExternalName", "externalName": format!("m{number}.example.org")}});
        let headless = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "marks"},
            "spec": {"clusterIP": "None", "ports": [{"port": 80}]}});
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "marks", "labels": {"kubernetes.io/service-name": "marks"}},
            "endpoints": [{"addresses": [format!("10.250.{high}.{low}")]}], "ports": [{"port": 80}]});
        let namespace = |number| format!("/api/v1/namespaces/m{number}");
        for write in [
            Write { path: format!("{services}/marks"), object: Some(headless) },
            Write { path: format!("{services}/marker"), object: Some(alias) },
            Write {
                path: "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/marks".into(),
                object: Some(slice),
            },
            Write {
                path: namespace(number),
                object: Some(
                    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": format!("m{number}")}}),
                ),
            },
        ] {
            writer.write(&write).expect("a marker");
        }
        let _ = writer.write(&Write { path: namespace(number - 1), object: None });
    }

    /// Until both show them, eDNS in the kernel.
    pub fn wait(&self, ours: &Client, theirs: &Client) {
        let [high, low] = self.0.to_be_bytes();
        let alias = format!("marker.default.svc.cluster.local. cname m{}.example.org.", self.0);
        let address = format!("marks.default.svc.cluster.local. a 10.250.{high}.{low}");
        let namespace = format!("m{}.svc.cluster.local", self.0);
        for (client, is_ours) in [(theirs, false), (ours, true)] {
            within(PATIENCE, &format!("marker {}, eDNS: {is_ours}", self.0), || {
                for (name, rtype, wanted) in [
                    ("marker.default.svc.cluster.local", CNAME, Some(&alias)),
                    ("marks.default.svc.cluster.local", A, Some(&address)),
                    (&*namespace, A, None),
                ] {
                    let reply = client.ask_whom(name, rtype);
                    let is_it = reply.as_ref().is_some_and(|(reply, in_kernel)| {
                        let shows = wanted.is_none_or(|record| reply.answer.contains(record));
                        shows && reply.rcode == "NoError" && (*in_kernel || !is_ours)
                    });
                    if !is_it {
                        std::thread::sleep(Duration::from_millis(2));
                        return Err(format!("{name} {rtype}: {reply:?}"));
                    }
                }
                Ok(())
            });
        }
    }
}
