//! Network interfaces: which of them the config means, and what the kernel says of them by netlink.

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
pub(crate) use self::follow::numbers;
pub use self::link::{Accepts, Header, Link};
pub use self::pattern::IfPattern;
pub use self::uplinks::Uplink;
