//! The skeleton that build.rs generates from `src/bpf/edns.bpf.c`.
#![allow(missing_docs, clippy::all, clippy::undocumented_unsafe_blocks, unused_qualifications)]
include!(concat!(env!("OUT_DIR"), "/edns.skel.rs"));
