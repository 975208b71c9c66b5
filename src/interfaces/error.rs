//! Errors of [`Interfaces`](super::Interfaces).

use std::io;

/// Why the interfaces of `Ifname` can't be found or followed.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// `Ifname` names an interface that does not exist. The second field lists those that do.
    #[error("Ifname: no interface {0} exists; the interfaces are: {1}")]
    NoSuch(String, String),
    /// `Ifname` is empty, and no default route exists to choose an interface by. The field lists the interfaces.
    #[error("Ifname is empty, and no default route exists; set Ifname to one of: {0}")]
    NoDefaultRoute(String),
    /// `Ifname` names an interface whose link-layer header the program can't parse.
    #[error("Ifname: {0} carries neither Ethernet frames nor plain IP packets")]
    Header(String),
    /// A netlink request failed.
    #[error("reading interfaces by netlink: {0}")]
    Netlink(#[from] rtnetlink::Error),
    /// The netlink socket failed.
    #[error("reading interfaces by netlink: {0}")]
    Socket(#[from] io::Error),
    /// The netlink connection that delivers notifications ended.
    #[error("the netlink connection for interface changes ended")]
    Ended,
}
