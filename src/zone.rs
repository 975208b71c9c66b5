//! What exists, and what the kernel answers for it. Pure: no I/O, no BPF.

pub mod name;
pub mod node;
