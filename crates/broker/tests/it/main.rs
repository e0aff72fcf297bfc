//! Whole brokers in one process: real threads, real disks, real sockets on loopback.

mod admin;
mod client;
mod documents;
mod single;
mod support;
mod three;
