//! A sidecar that is told to stop in the middle of an act.

use std::sync::Arc;
use std::time::Duration;

use rayscaler::embedded::ray::{CallFault, Callee, Faults};
use rayscaler::runtime::shutdown::Trigger;
use serde_json::json;

use crate::raycluster::{Group, Manifest};
use crate::world::{World, play};

/// Tells the sidecar to stop when it asks for a drain, and lets that take its time.
struct StopsAtDrain(Arc<Trigger>);

impl Faults for StopsAtDrain {
    fn on_call(&self, _: Callee, method: &str) -> Option<CallFault> {
        (method == "DrainNode").then(|| {
            self.0.pull();
            CallFault::Late(Duration::from_millis(50))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_during_a_drain_it_ends_what_it_began_and_begins_nothing() {
    play(async {
        let manifest = Manifest::new("c")
            .group(Group::new("shrinks").replicas(1, 1, 6))
            .group(Group::new("grows").replicas(0, 0, 6));
        let mut world = World::start(manifest, Duration::from_secs(2)).await;
        let start = world.autoscaler_starts().await;
        let sidecar = world.sidecar(&start);
        world.until_workers(1).await;
        world.pass_ms(2_000).await;
        world
            .ray
            .set_faults(Arc::new(StopsAtDrain(Arc::clone(&sidecar.trigger))));
        let groups = "/spec/workerGroupSpecs";
        world
            .patch(json!([
                {"op": "add", "path": format!("{groups}/0/minReplicas"), "value": 0},
                {"op": "add", "path": format!("{groups}/0/maxReplicas"), "value": 0},
                {"op": "add", "path": format!("{groups}/1/minReplicas"), "value": 2},
            ]))
            .await;
        world.until("the end", async || sidecar.is_over()).await;
        let raycluster = world.raycluster().await;
        let group = |at: usize| &raycluster["spec"]["workerGroupSpecs"][at];
        let named = &group(0)["scaleStrategy"]["workersToDelete"];
        assert_eq!(named.as_array().map(Vec::len), Some(1), "{}", group(0));
        assert_eq!(group(0)["replicas"], json!(0));
        assert_eq!(group(1)["replicas"], json!(0), "nothing new was asked for");
    })
    .await;
}
