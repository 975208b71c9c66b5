//! eDNS.

pub mod datapath;
pub mod zone;
