//! Placement groups: how they wait, what a placed one adds to its nodes, and what is left when it is removed.

use std::collections::BTreeSet;

use rayscaler::wire::gcs::ray::rpc::autoscaler::{GangResourceRequest, NodeState, NodeStatus};
use rayscaler::wire::gcs::ray::rpc::{NodeDeathInfo, node_death_info::Reason};

use crate::heads::{Head, Worker};
use crate::support::ray::WorkerOptions;
use crate::support::wait::eventually;
use crate::{node, on_both_heads, state, until};

on_both_heads! {
    a_group_waits_in_the_words_of_its_strategy(HeadOptions::default());
    a_placed_group_adds_its_bundles_to_its_nodes(HeadOptions::default());
}

const TWO: &str = r#"--bundles=[{"CPU": 1}, {"CPU": 1}]"#;

async fn pending<H: Head>(head: &H, count: usize) -> Vec<GangResourceRequest> {
    eventually("groups that wait", async || {
        let gangs = state(head).await.pending_gang_resource_requests;
        (gangs.len() == count).then_some(gangs)
    })
    .await
}

async fn a_group_waits_in_the_words_of_its_strategy<H: Head>(head: H) {
    let strategies = ["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"];
    for strategy in strategies {
        let flag = format!("--strategy={strategy}");
        head.user(&["gang", strategy, TWO, &flag, "--no-wait"])
            .await;
    }
    let gangs = pending(&head, strategies.len()).await;
    for strategy in strategies {
        let ending = format!(":{strategy}|PENDING");
        let gang = gangs
            .iter()
            .find(|gang| gang.details.ends_with(&ending))
            .unwrap();
        let (id, _) = gang.details.split_once(':').unwrap();
        assert!(id.len() == 36 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!((gang.requests.len(), gang.bundle_selectors.len()), (2, 1));
        let selected = &gang.bundle_selectors[0];
        assert!(selected.locality_requirement.is_none());
        assert_eq!(selected.resource_requests, gang.requests);
        let label = format!("_PG_{id}");
        for request in &gang.requests {
            assert_eq!(
                request
                    .resources_bundle
                    .clone()
                    .into_iter()
                    .collect::<Vec<_>>(),
                [("CPU".to_owned(), 1.0)]
            );
            assert!(request.label_selectors.is_empty());
            let constraints = &request.placement_constraints;
            let together = constraints
                .iter()
                .filter_map(|one| one.affinity.as_ref())
                .map(|one| &one.label_name);
            let apart = constraints
                .iter()
                .filter_map(|one| one.anti_affinity.as_ref())
                .map(|one| &one.label_name);
            let expected: Vec<&String> = vec![&label];
            let is = |wanted: &str| {
                if strategy == wanted {
                    expected.clone()
                } else {
                    vec![]
                }
            };
            assert_eq!(together.collect::<Vec<_>>(), is("STRICT_PACK"));
            assert_eq!(apart.collect::<Vec<_>>(), is("STRICT_SPREAD"));
        }
    }
    head.user(&["remove_gang", "PACK", "STRICT_PACK"]).await;
    pending(&head, 2).await;
}

async fn a_placed_group_adds_its_bundles_to_its_nodes<H: Head>(head: H) {
    let first = head.worker(WorkerOptions::named("first")).await;
    let mut second = head.worker(WorkerOptions::named("second")).await;
    head.user(&["gang", "g", TWO, "--strategy=STRICT_SPREAD"])
        .await;
    assert!(state(&head).await.pending_gang_resource_requests.is_empty());
    let has_bundle = |name: &String| name.starts_with("bundle_group_");
    let holding = until(&head, &first.id(), "a bundle", |node| {
        node.total_resources.keys().any(has_bundle)
    })
    .await;
    let label = holding.dynamic_labels.keys().next().unwrap().clone();
    one_bundle_is_shown(&holding, &label);

    // One of two nodes goes: its bundle alone waits, and not beside the other.
    one_of_two_bundles_is_lost(&head, &mut second).await;
    assert!(
        node(&head, &first.id())
            .await
            .dynamic_labels
            .contains_key(&label)
    );
    let third = head.worker(WorkerOptions::named("third")).await;
    pending(&head, 0).await;
    let printed = head.user(&["gang_nodes", "g"]).await;
    let holders: BTreeSet<String> = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    let hex = |id: Vec<u8>| {
        id.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    assert_eq!(holders, BTreeSet::from([hex(first.id()), hex(third.id())]));

    head.user(&["remove_gang", "g"]).await;
    for id in [first.id(), third.id()] {
        let idle = until(&head, &id, "idle", |node| node.status() == NodeStatus::Idle).await;
        assert!(idle.dynamic_labels.is_empty());
        assert!(
            !idle
                .total_resources
                .keys()
                .any(|name| name.contains("_group_")),
            "{:?}",
            idle.total_resources
        );
        assert_eq!(idle.available_resources, idle.total_resources);
    }
}

fn one_bundle_is_shown(holding: &NodeState, label: &str) {
    let id = label.strip_prefix("_PG_").unwrap();
    assert_eq!(holding.dynamic_labels[label], "");
    let at = if holding
        .total_resources
        .contains_key(&format!("bundle_group_0_{id}"))
    {
        0
    } else {
        1
    };
    let amounts = |name: &str| {
        (
            holding.total_resources.get(name).copied(),
            holding.available_resources.get(name).copied(),
        )
    };
    for (name, amount) in [
        (format!("CPU_group_{id}"), 1.0),
        (format!("CPU_group_{at}_{id}"), 1.0),
        (format!("bundle_group_{id}"), 1000.0),
        (format!("bundle_group_{at}_{id}"), 1000.0),
    ] {
        assert_eq!(amounts(&name), (Some(amount), Some(amount)), "{name}");
    }
    assert_eq!(amounts("CPU"), (Some(2.0), Some(1.0)));
    let others = holding
        .total_resources
        .keys()
        .filter(|name| name.contains("_group_"));
    assert_eq!(others.count(), 4);
    assert_eq!(
        (holding.status(), holding.idle_duration_ms),
        (NodeStatus::Running, 0)
    );
}

async fn one_of_two_bundles_is_lost<H: Head>(head: &H, holder: &mut H::Worker) {
    holder.kill();
    let told = NodeDeathInfo {
        reason: Reason::UnexpectedTermination.into(),
        reason_message: String::new(),
    };
    head.client()
        .unregister_node(holder.id(), told)
        .await
        .unwrap();
    let waiting = pending(head, 1).await.remove(0);
    assert!(
        waiting.details.ends_with(":STRICT_SPREAD|RESCHEDULING"),
        "{}",
        waiting.details
    );
    assert_eq!(
        (
            waiting.requests.len(),
            waiting.bundle_selectors[0].resource_requests.len()
        ),
        (1, 1)
    );
}
