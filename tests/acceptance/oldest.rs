//! The oldest Ray that is served.

use super::basics::{a_request_outlives_its_driver, actors_come_and_go};
use super::options;
use crate::support::ray_venv::RayVersion;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a01_actors_come_and_go_on_the_oldest_ray() {
    actors_come_and_go("v2", options().ray(RayVersion::Oldest)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a11_a_request_outlives_its_driver_on_the_oldest_ray() {
    a_request_outlives_its_driver("v2", options().ray(RayVersion::Oldest)).await;
}
