//! The commands beside the daemon.

mod explain;
mod pages;
mod probe;
mod send;
mod status;
