//! Two sidecars at once, in the old head pod and in the new one.

use std::time::Duration;

use kube::ResourceExt;
use rayscaler::model::{ANNOTATION_INTENT, Intent};

use crate::raycluster::{Group, Manifest};
use crate::world::{Sidecar, World, annotations, play};

fn outcome(sidecar: &Sidecar) -> (String, String) {
    let pass = sidecar.inside.last_pass().unwrap();
    (pass.outcome.clone(), pass.outcome_detail.clone())
}

fn is_held(world: &World, sidecar: &Sidecar) -> bool {
    let holds = sidecar.samples("rayscaler_holds{", world.clock.now());
    let is_it = |line: &String| line.contains("code=\"fenced\"") && line.ends_with(" 1.0");
    holds.iter().any(is_it)
}

async fn writer(world: &World) -> String {
    let text = annotations(&world.raycluster().await).remove(ANNOTATION_INTENT);
    let intent = Intent::parse(&text.unwrap()).unwrap();
    intent.head.unwrap().uid
}

#[tokio::test(start_paused = true)]
async fn of_an_old_head_that_lives_on_and_its_successor_only_the_successor_writes() {
    play(async {
        let group = Group::new("small").replicas(0, 0, 20);
        let manifest = Manifest::new("c").group(group);
        let mut world = World::start(manifest, Duration::from_secs(1)).await;
        let start = world.autoscaler_starts().await;
        let old = world.sidecar(&start);
        world.tasks("CPU=1", 2);
        world.until_workers(2).await;
        let head = world.pods_of("head").await.remove(0);
        assert_eq!(Some(writer(&world).await), head.uid());
        assert_eq!(outcome(&old).0, "nothing");

        // Deleted by force while its machine is away: nobody ends what runs there.
        world.deaf.store(true, std::sync::atomic::Ordering::Relaxed);
        world.forget(&head.name_any()).await;
        let start = world.autoscaler_starts().await;
        let new = world.sidecar(&start);
        world
            .until("a successor", async || new.inside.last_pass().is_some())
            .await;
        let successor = world.pods_of("head").await.remove(0);
        assert_ne!(successor.uid(), head.uid());
        world
            .until("the successor's word", async || {
                Some(writer(&world).await) == successor.uid()
            })
            .await;
        let (what, why) = outcome(&old);
        assert_eq!(what, "fenced");
        assert!(why.contains("is newer than ours"), "{why}");
        assert!(is_held(&world, &old) && !is_held(&world, &new));

        let patches = |sidecar: &Sidecar| sidecar.patches(world.clock.now());
        let before = patches(&old);
        world.tasks("CPU=1", 3);
        world.until_workers(5).await;
        assert_eq!((world.replicas().await, world.asked_max()), (5, 5));
        assert_eq!(patches(&old), before, "the old one has written");
        // What the first one knew went over with the annotation.
        let memory = new.inside.last_pass().unwrap().memory;
        assert!(memory.scaled_up_at.contains_key(&"small".into()));
    })
    .await;
}
