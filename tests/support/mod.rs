//! What the integration tests share.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "test")]

pub mod kube;
pub mod kube_binaries;
pub mod process;

use std::net::TcpListener;

/// Returns an environment variable that steers the tests.
#[expect(
    clippy::disallowed_methods,
    reason = "test settings travel in the environment"
)]
pub fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns a TCP port of 127.0.0.1 that was free just now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
