//! Why interfaces are not known.

use std::io;

/// Why interfaces are not known.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// It is named, and not there.
    #[error("Ifname: there is no interface {0} here; there are: {1}")]
    NoSuch(String, String),
    /// No Ifname, and no default route to follow.
    #[error("Ifname is empty, and there is no default route to take the interface of; there are: {0}")]
    NoDefaultRoute(String),
    /// It is named, but its packets begin with a header that the program does not know.
    #[error("Ifname: {0} has neither Ethernet nor bare IP packets")]
    Header(String),
    /// Netlink does not work.
    #[error("asking the kernel for its interfaces: {0}")]
    Netlink(#[from] rtnetlink::Error),
    /// Netlink does not work.
    #[error("asking the kernel for its interfaces: {0}")]
    Socket(#[from] io::Error),
    /// The connection that brings the messages ended.
    #[error("the kernel's messages about interfaces ended")]
    Ended,
}
