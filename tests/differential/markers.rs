//! Objects that tell how far a server is: what is watched of each kind comes in order, so who shows the last marker of each
//! kind has seen all that was written before.

use std::collections::BTreeSet;

use hickory_proto::rr::RecordType::{A, CNAME};
use serde_json::json;

use crate::client::Client;
use crate::lab::within;
use crate::static_names::StaticNames;
use crate::writer::{Outcome, Write, Writer};

/// Seconds that news takes at most: the longest wait before a list, twice, and what a busy machine takes.
const PATIENCE: u64 = 120;

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ALIAS: &str = "marker.default.svc.cluster.local";
const SLICE: &str = "marks.default.svc.cluster.local";
const NAMESPACE: &str = "marker.svc.cluster.local";

/// The number of the last ones.
#[derive(Default)]
pub struct Markers(u16);

impl Markers {
    /// Writes one of each kind, and returns when both servers have seen them, and eDNS the static names.
    pub fn pass(&mut self, writer: &Writer, static_names: &StaticNames, ours: &Client, theirs: &Client) {
        self.0 = self.0.wrapping_add(1);
        let [high, low] = self.0.to_be_bytes();
        // The namespace is there every other time.
        let (is_there, first) = (self.0 % 2 == 1, self.0 == 1);
        let headless = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "marks"},
            "spec": {"clusterIP": "None", "ports": [{"port": 80}]}});
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "marks", "labels": {"kubernetes.io/service-name": "marks"}},
            "endpoints": [{"addresses": [format!("10.250.{high}.{low}")]}], "ports": [{"port": 80}]});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "marker"}});
        let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        let writes = [
            first.then(|| Write { path: format!("{SERVICES}/marks"), object: Some(headless) }),
            Some(Write { path: format!("{slices}/marks"), object: Some(slice) }),
            Some(Write { path: "/api/v1/namespaces/marker".into(), object: is_there.then_some(namespace) }),
        ];
        for write in writes.into_iter().flatten() {
            writer.write(&write).expect("a marker");
        }
        let alias = write_alias(writer, &format!("m{}", self.0));
        let address = format!("{SLICE}. 30 a 10.250.{high}.{low}");
        let namespace = if is_there { "NoError" } else { "NXDomain" };
        for (client, is_ours) in [(theirs, false), (ours, true)] {
            within(PATIENCE, &format!("marker {}, eDNS: {is_ours}", self.0), || {
                shows(client, is_ours, ALIAS, |rcode, answer| rcode == "NoError" && answer.contains(&alias))?;
                shows(client, is_ours, SLICE, |rcode, answer| rcode == "NoError" && answer.contains(&address))?;
                shows(client, is_ours, NAMESPACE, |rcode, _| rcode == namespace)
            });
        }
        let (name, address) = static_names.marker();
        within(PATIENCE, "the static marker", || {
            shows(ours, true, name, |rcode, answer| rcode == "NoError" && answer.contains(&address))
        });
        // What came with a marker may be written after it; what comes now is not written before all of that is.
        let alias = write_alias(writer, &format!("n{}", self.0));
        within(PATIENCE, &format!("the marker after {}", self.0), || {
            shows(ours, true, ALIAS, |rcode, answer| rcode == "NoError" && answer.contains(&alias))
        });
    }
}

/// Returns the record that shows it.
fn write_alias(writer: &Writer, label: &str) -> String {
    let alias = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "marker"},
        "spec": {"type": "ExternalName", "externalName": format!("{label}.example.org")}});
    writer.write(&Write { path: format!("{SERVICES}/marker"), object: Some(alias) }).expect("a marker");
    format!("{ALIAS}. 30 cname {label}.example.org.")
}

fn shows(client: &Client, is_ours: bool, name: &str, is_it: impl Fn(&str, &BTreeSet<String>) -> bool) -> Outcome {
    let rtype = if name == ALIAS { CNAME } else { A };
    match client.ask_whom(name, rtype) {
        Some((reply, in_kernel)) if (in_kernel || !is_ours) && is_it(&reply.rcode, &reply.answer) => Ok(()),
        other => Err(format!("{name} {rtype}: {other:?}")),
    }
}
