//! Where names come from. A source yields what exists; it never touches BPF.

pub mod file;
