//! What users read: `ray status`, and the autoscaler's lines in a driver's output.

use super::options;
use crate::support::raycluster::Group;
use crate::world::{World, cluster};

/// A driver asks for one node and for one that no group has; both have to be told.
async fn status_and_drivers_tell_the_truth(version: &str, log: &str) {
    let manifest = cluster(version, 60).group(Group::new("small"));
    let world = World::start(manifest, options()).await;
    let driver = world.user_starts(&["listen", "one", "--num-cpus=1", "--seconds=600"]);
    world.pods_of("small", 1).await;
    // Only now: what is told before a driver listens, it never prints.
    let too_large = world.user_starts(&["listen", "large", "--num-cpus=64", "--no-wait"]);
    let lines = [
        "Adding 1 node(s) of type small.",
        "No available node types can fulfill",
    ];
    world
        .eventually("the autoscaler's lines in a driver's output", || async {
            let told = driver.printed();
            let from_us: Vec<&str> = told
                .lines()
                .filter(|line| line.contains("(autoscaler"))
                .collect();
            let is_told = |text: &&str| from_us.iter().any(|line| line.contains(text));
            lines.iter().all(is_told).then_some(())
        })
        .await;
    let log = world.ray_log(log);
    assert!(log.contains(lines[0]), "{log}");
    let status = world
        .eventually("the node in `ray status`", || async {
            let status = world.ray(&["status"]).await;
            let facts = [" 1 small\n", "1.0/1.0 CPU", "{'CPU': 64.0}"];
            facts
                .iter()
                .all(|fact| status.contains(fact))
                .then_some(status)
        })
        .await;
    assert!(status.contains("(no pending nodes)"), "{status}");
    drop((driver, too_large));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_and_drivers_tell_the_truth_with_v2() {
    status_and_drivers_tell_the_truth("v2", "events/event_AUTOSCALER.log").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_and_drivers_tell_the_truth_with_v2_off() {
    status_and_drivers_tell_the_truth("v1", "monitor.log").await;
}
