//! What exists, and what the kernel answers for it. Pure: no I/O, no BPF.
//!
//! [`name`] is the key and [`node`] what the kernel gets to know of it; [`render`] makes a node's octets; [`statics`],
//! [`cluster`] and [`pass`] say which nodes there are, and [`layers`] which of them wins where a name has two. [`change`] is
//! the order in which maps follow.

pub mod change;
pub mod cluster;
pub mod layers;
pub mod name;
pub mod node;
pub mod pass;
pub mod render;
pub mod statics;
