//! eDNS.

pub mod zone;
