//! Static names over the cluster's.
