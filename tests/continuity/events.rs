//! What shows in `kubectl describe raycluster`, where the Role allows it.

use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams};

use crate::raycluster::{Group, Manifest};
use crate::world::{World, play};

#[tokio::test(start_paused = true)]
async fn growth_is_told_as_an_event_of_the_raycluster() {
    play(async {
        let group = Group::new("small").replicas(0, 0, 20);
        let manifest = Manifest::new("c").group(group);
        let mut world = World::start(manifest, Duration::from_secs(1)).await;
        let start = world.autoscaler_starts().await;
        let _sidecar = world.sidecar(&start);
        world.tasks("CPU=1", 2);
        world.until_workers(2).await;
        let events: Api<Event> = Api::namespaced(world.client.clone(), "default");
        world
            .until("an event", async || {
                let all = events.list(&ListParams::default()).await.unwrap();
                all.iter().any(|event| {
                    let about = event.regarding.as_ref();
                    about.is_some_and(|it| it.kind.as_deref() == Some("RayCluster"))
                        && event
                            .note
                            .as_deref()
                            .is_some_and(|note| note.contains("small"))
                })
            })
            .await;
    })
    .await;
}
