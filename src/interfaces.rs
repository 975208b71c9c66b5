//! Network interfaces: which of them match the config, and their properties as netlink reports them.

mod error;
mod follow;
mod link;
pub(crate) mod netlink;
mod nexthops;
mod pattern;
mod routes;
mod uplinks;

pub use self::error::InterfaceError;
pub use self::follow::Interfaces;
pub(crate) use self::follow::ifindexes;
pub use self::link::{Accepts, Header, Link};
pub use self::pattern::IfPattern;
pub use self::uplinks::Uplink;
