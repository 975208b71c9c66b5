//! Names, and the answers that the kernel gives for them. Pure: no I/O, no BPF.
//!
//! A *name* ([`name`]) has a *node* ([`node`]): its answers by type, rendered to wire format ([`render`]), and the answers
//! of names below it that have no node of their own. Three sources make nodes: [`statics`] from domain.yaml, [`cluster`] from
//! the Kubernetes API, and [`pass`] from `PassNames`. [`layers`] merges them into one node for each name and returns
//! [`change`]s in an order in which the maps can follow one by one. [`lookup`] says what the kernel answers from the
//! result.

pub mod change;
pub mod cluster;
pub mod layers;
pub mod lookup;
pub mod name;
pub mod node;
pub mod pass;
pub mod render;
pub mod statics;
