//! What the integration tests share.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses its own part of this"
)]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "test")]

pub mod certificates;
pub mod process;
pub mod ray;
pub mod ray_venv;
pub mod wait;
