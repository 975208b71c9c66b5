//! The sources of names: the domain file and the Kubernetes API. They do I/O, and know nothing about BPF.

pub mod file;
pub mod kubernetes;
