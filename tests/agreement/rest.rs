//! Waits until all daemons have seen everything that was written before.

use crate::common::packet::{ETHERNET, IPV4, Packet, Query, TYPE_A, UDP, wire};
use crate::lab::within;
use crate::marks::{ALIAS, Marks, NAMESPACE, SLICE, Shown};
use crate::side::{Side, WIRES, lane};
use crate::static_names::{MARKER, Statics};
use crate::wire::{Frame, Wire};
use crate::writer::Writer;

/// Seconds until a change is visible: twice the longest wait before a list, with reserve for a busy machine.
const PATIENCE: u64 = 120;

const TYPE_CNAME: u16 = 5;

/// The marks, and who has to show them.
#[derive(Default)]
pub struct Markers(Marks);

impl Markers {
    /// Writes a mark of each kind. Returns when all daemons show them and this version of the static names.
    pub fn pass(&mut self, writer: &Writer, statics: &Statics, sides: &[Side]) {
        let Shown { target, address: mark, has_namespace } = self.0.write(writer);
        let number = self.0.number();
        let address = |octets: [u8; 4]| [&[0, 4], &octets[..]].concat();
        let (target, slice, name) = (wire(&target), address(mark), address(statics.marker().octets()));
        let rcode = if has_namespace { 0 } else { 3 };
        for (side, i) in lanes(sides) {
            within(PATIENCE, &format!("mark {number}: {}, {}", side.name, lane(i)), || {
                let wire = &side.wires[i];
                shows(wire, ALIAS, TYPE_CNAME, 0, &target)?;
                shows(wire, SLICE, TYPE_A, 0, &slice)?;
                shows(wire, NAMESPACE, TYPE_A, rcode, &[])?;
                shows(wire, MARKER, TYPE_A, 0, &name)
            });
        }
        let target = wire(&self.0.write_alias(writer, "n"));
        for (side, i) in lanes(sides) {
            within(PATIENCE, &format!("the alias after mark {number}: {}, {}", side.name, lane(i)), || {
                shows(&side.wires[i], ALIAS, TYPE_CNAME, 0, &target)
            });
        }
    }
}

fn lanes(sides: &[Side]) -> impl Iterator<Item = (&Side, usize)> {
    sides.iter().flat_map(|side| (0..WIRES).map(move |i| (side, i)))
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
