//! Objects that show how far a server is. Watch events of a kind arrive in order, so a server that shows the last marker of
//! each kind has seen everything that was written before.

use std::collections::BTreeSet;

use hickory_proto::rr::RecordType::{A, CNAME};
use serde_json::json;

use crate::client::Client;
use crate::lab::within;
use crate::static_names::StaticNames;
use crate::writer::{Outcome, Write, Writer};

/// Seconds until a change is visible: twice the longest wait before a list, with reserve for a busy machine.
const PATIENCE: u64 = 120;

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ALIAS: &str = "marker.default.svc.cluster.local";
const SLICE: &str = "marks.default.svc.cluster.local";
const NAMESPACE: &str = "marker.svc.cluster.local";

/// The number of the last markers.
#[derive(Default)]
pub struct Markers(u16);

impl Markers {
    /// Writes a marker of each kind. Returns when both servers show them and eDNS shows the static names.
    pub fn pass(&mut self, writer: &Writer, static_names: &StaticNames, via_edns: &Client, direct: &Client) {
        self.0 = self.0.wrapping_add(1);
        let [high, low] = self.0.to_be_bytes();
        // The namespace exists every other time.
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
        for (client, is_ours) in [(direct, false), (via_edns, true)] {
            within(PATIENCE, &format!("marker {}, eDNS: {is_ours}", self.0), || {
                shows(client, is_ours, ALIAS, |rcode, answer| rcode == "NoError" && answer.contains(&alias))?;
                shows(client, is_ours, SLICE, |rcode, answer| rcode == "NoError" && answer.contains(&address))?;
                shows(client, is_ours, NAMESPACE, |rcode, _| rcode == namespace)
            });
        }
        let (name, address) = static_names.marker();
        within(PATIENCE, "the static marker", || {
            shows(via_edns, true, name, |rcode, answer| rcode == "NoError" && answer.contains(&address))
        });
        // Changes that came with the marker may be written after it. The next marker is written after all of them.
        let alias = write_alias(writer, &format!("n{}", self.0));
        within(PATIENCE, &format!("the marker after {}", self.0), || {
            shows(via_edns, true, ALIAS, |rcode, answer| rcode == "NoError" && answer.contains(&alias))
        });
    }
}

/// Writes the alias. Returns the record that shows it.
fn write_alias(writer: &Writer, label: &str) -> String {
    let alias = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "marker"},
        "spec": {"type": "ExternalName", "externalName": format!("{label}.example.org")}});
    writer.write(&Write { path: format!("{SERVICES}/marker"), object: Some(alias) }).expect("a marker");
    format!("{ALIAS}. 30 cname {label}.example.org.")
}

fn shows(client: &Client, is_ours: bool, name: &str, is_it: impl Fn(&str, &BTreeSet<String>) -> bool) -> Outcome {
    let rtype = if name == ALIAS { CNAME } else { A };
    match client.ask_with_sender(name, rtype) {
        Some((reply, in_kernel)) if (in_kernel || !is_ours) && is_it(&reply.rcode, &reply.answer) => Ok(()),
        other => Err(format!("{name} {rtype}: {other:?}")),
    }
}
