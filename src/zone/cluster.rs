//! stand-in
mod spec;
pub use spec::{EndpointSpec, Key, PortSpec, ServiceSpec, SliceSpec};
