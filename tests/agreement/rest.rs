//! Objects that show how far a daemon is. Events of one kind come in order: a daemon that shows the last marker of each kind has
//! seen all that was written before.

use serde_json::json;

use crate::common::packet::{ETHERNET, IPV4, Packet, Query, TYPE_A, UDP, wire};
use crate::lab::within;
use crate::side::{Side, WIRES, lane};
use crate::static_names::{MARKER, Statics};
use crate::wire::{Frame, Wire};
use crate::writer::{Write, Writer};

/// Seconds that a change takes at most: twice the longest wait before a list, and what a busy machine adds.
const PATIENCE: u64 = 120;

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ALIAS: &str = "marker.default.svc.cluster.local";
const SLICE: &str = "marks.default.svc.cluster.local";
const NAMESPACE: &str = "marker.svc.cluster.local";
const TYPE_CNAME: u16 = 5;

/// The number of the last markers.
#[derive(Default)]
pub struct Markers(u16);

impl Markers {
    /// Writes a marker of each kind, and returns when all daemons show them and this version of the static names.
    pub fn pass(&mut self, writer: &Writer, statics: &Statics, sides: &[Side]) {
        self.0 = self.0.wrapping_add(1);
        let [high, low] = self.0.to_be_bytes();
        // The namespace exists every other time.
        let (exists, is_first) = (self.0 % 2 == 1, self.0 == 1);
        let headless = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "marks"},
            "spec": {"clusterIP": "None", "ports": [{"port": 80}]}});
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "marks", "labels": {"kubernetes.io/service-name": "marks"}},
            "endpoints": [{"addresses": [format!("10.250.{high}.{low}")]}], "ports": [{"port": 80}]});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "marker"}});
        let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        let writes = [
            is_first.then(|| Write { path: format!("{SERVICES}/marks"), object: Some(headless) }),
            Some(Write { path: format!("{slices}/marks"), object: Some(slice) }),
            Some(Write { path: "/api/v1/namespaces/marker".into(), object: exists.then_some(namespace) }),
        ];
        for write in writes.into_iter().flatten() {
            writer.write(&write).expect("a marker");
        }
        let alias = write_alias(writer, &format!("m{}", self.0));
        let address = |octets: [u8; 4]| [&[0, 4], &octets[..]].concat();
        let (slice, name) = (address([10, 250, high, low]), address(statics.marker().octets()));
        let rcode = if exists { 0 } else { 3 };
        for (side, i) in lanes(sides) {
            within(PATIENCE, &format!("marker {}: {}, {}", self.0, side.name, lane(i)), || {
                let wire = &side.wires[i];
                shows(wire, ALIAS, TYPE_CNAME, 0, &alias)?;
                shows(wire, SLICE, TYPE_A, 0, &slice)?;
                shows(wire, NAMESPACE, TYPE_A, rcode, &[])?;
                shows(wire, MARKER, TYPE_A, 0, &name)
            });
        }
        // What came together with a marker may be written to the maps after it. What comes now is written after all of that.
        let alias = write_alias(writer, &format!("n{}", self.0));
        for (side, i) in lanes(sides) {
            within(PATIENCE, &format!("the marker after {}: {}, {}", self.0, side.name, lane(i)), || {
                shows(&side.wires[i], ALIAS, TYPE_CNAME, 0, &alias)
            });
        }
    }
}

fn lanes(sides: &[Side]) -> impl Iterator<Item = (&Side, usize)> {
    sides.iter().flat_map(|side| (0..WIRES).map(move |i| (side, i)))
}

/// Returns octets of the record that shows it.
fn write_alias(writer: &Writer, label: &str) -> Vec<u8> {
    let target = format!("{label}.example.org");
    let alias = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "marker"},
        "spec": {"type": "ExternalName", "externalName": target}});
    writer.write(&Write { path: format!("{SERVICES}/marker"), object: Some(alias) }).expect("a marker");
    wire(&target)
}

/// Whether the program answers with this rcode and these octets.
fn shows(wire: &Wire, name: &str, qtype: u16, rcode: u8, octets: &[u8]) -> Result<(), String> {
    let packet = Packet::between("192.0.2.7", "10.96.0.10", &Query::new(name, qtype));
    let outputs = wire.exchange(&[Frame { offload: [0; 10], octets: packet.frame() }]);
    let Some(reply) = outputs.replies.first() else { return Err(format!("{name} {qtype}: no reply")) };
    let dns = IPV4 + UDP + if matches!(wire, Wire::Ethernet { .. }) { ETHERNET } else { 0 };
    let has = |octets: &[u8]| octets.is_empty() || reply.octets.windows(octets.len()).any(|o| o == octets);
    if reply.octets[dns + 3] & 0xf == rcode && has(octets) {
        Ok(())
    } else {
        Err(format!("{name} {qtype}: {:02x?}", reply.octets))
    }
}
