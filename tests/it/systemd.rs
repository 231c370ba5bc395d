//! Under a service manager: what the daemon tells it, the sockets that it passes,
//! and the lines that it keeps over a restart.

mod activation;
mod notify;
mod restart;
