//! What exists, and what the kernel answers for it. Pure: no I/O, no BPF.
//!
//! [`name`] is the key and [`node`] what the kernel gets to know of it; [`render`] makes a node's octets; [`statics`] and
//! [`pass`] say which nodes there are.

pub mod name;
pub mod node;
pub mod pass;
pub mod render;
pub mod statics;
