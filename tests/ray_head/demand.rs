//! Demand: how tasks, actors and `request_resources` show, at the raylet and at the GCS.

use std::collections::BTreeMap;

use rayscaler::wire::gcs::ray::rpc::autoscaler::{
    ClusterResourceState, NodeStatus, ResourceRequest,
};
use rayscaler::wire::gcs::ray::rpc::{LabelSelector, LabelSelectorOperator, ResourcesData};

use crate::heads::{Head, Worker};
use crate::support::ray::WorkerOptions;
use crate::support::wait::eventually;
use crate::{on_both_heads, state, until};

on_both_heads! {
    what_a_driver_asks_for_is_said(HeadOptions {
        num_cpus: 2,
        labels: "zone=z1".to_owned(),
        ..HeadOptions::default()
    });
    an_actor_goes_to_a_node_that_fits_and_has_the_labels(HeadOptions::default());
    with_v2_off_the_constraint_is_a_key(HeadOptions { autoscaler_v2: false, ..HeadOptions::default() });
}

fn bundle(amounts: &[(&str, f64)]) -> BTreeMap<String, f64> {
    amounts
        .iter()
        .map(|(name, amount)| ((*name).to_owned(), *amount))
        .collect()
}

/// Returns how many requests of this shape wait, and the first of them.
fn pending(state: &ClusterResourceState, shape: &[(&str, f64)]) -> Option<(i64, ResourceRequest)> {
    let mut requests = state.pending_resource_requests.iter();
    requests.find_map(|by_count| {
        let request = by_count.request.clone()?;
        (request.resources_bundle == bundle(shape)).then_some((by_count.count, request))
    })
}

/// Returns keys, operators and values of each selector, sorted.
fn words(selectors: &[LabelSelector]) -> Vec<Vec<(String, LabelSelectorOperator, Vec<String>)>> {
    let one = |selector: &LabelSelector| {
        let constraints = selector.label_constraints.iter();
        let words = constraints.map(|one| {
            let mut values = one.label_values.clone();
            values.sort();
            (one.label_key.clone(), one.operator(), values)
        });
        let mut words: Vec<_> = words.collect();
        words.sort_by(|a, b| a.0.cmp(&b.0));
        words
    };
    selectors.iter().map(one).collect()
}

/// Returns ready, infeasible and backlog of a shape at a raylet, and its selectors.
fn at_raylet(load: &ResourcesData, shape: &[(&str, f64)]) -> (u64, u64, i64, Vec<LabelSelector>) {
    let demands = load
        .resource_load_by_shape
        .iter()
        .flat_map(|load| &load.resource_demands);
    let mut same = demands.filter(|demand| demand.shape == bundle(shape));
    let found = same.next().expect("the shape");
    assert!(same.next().is_none());
    (
        found.num_ready_requests_queued,
        found.num_infeasible_requests_queued,
        found.backlog_size,
        found.label_selectors.clone(),
    )
}

async fn what_a_driver_asks_for_is_said<H: Head>(head: H) {
    head.ask_for_everything().await;
    let seen = eventually("all that was asked for", async || {
        let state = state(&head).await;
        // Two of the 32 run.
        let is_all =
            pending(&state, &[("CPU", 1.0)])?.0 == 30 && pending(&state, &[("CPU", 8.0)])?.0 == 3;
        is_all.then_some(state)
    })
    .await;
    the_selectors_of_tasks_are_said(&seen);
    groups_and_tasks_inside_are_said(&seen);
    the_constraint_is_said(&seen);
    assert_eq!(seen.pending_resource_requests.len(), 4);
    let node = &seen.node_states[0];
    assert_eq!(node.status(), NodeStatus::Running);
    assert!(!node.available_resources.contains_key("CPU") && node.total_resources["CPU"] == 2.0);
    assert_eq!(node.labels["zone"], "z1");
    a_raylet_and_the_gcs_tell_the_same(&head).await;

    the_driver_is_said(&head, &seen).await;
}

fn the_selectors_of_tasks_are_said(seen: &ClusterResourceState) {
    let (_, plain) = pending(seen, &[("CPU", 8.0)]).unwrap();
    assert_eq!(
        plain.label_selectors,
        [LabelSelector::default()],
        "one that asks for nothing"
    );
    assert!(plain.placement_constraints.is_empty());
    let (count, selected) = pending(seen, &[("CPU", 3.0)]).unwrap();
    assert_eq!(count, 1);
    let zone = |values: &[&str]| {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        (
            "zone".to_owned(),
            LabelSelectorOperator::LabelOperatorIn,
            values,
        )
    };
    let not_spot = (
        "tier".to_owned(),
        LabelSelectorOperator::LabelOperatorNotIn,
        vec!["spot".to_owned()],
    );
    assert_eq!(
        words(&selected.label_selectors),
        [vec![not_spot, zone(&["z7", "z8"])], vec![zone(&["z6"])]]
    );
}

fn groups_and_tasks_inside_are_said(seen: &ClusterResourceState) {
    let gang = |strategy: &str| {
        let ending = format!(":{strategy}|PENDING");
        seen.pending_gang_resource_requests
            .iter()
            .find(|gang| gang.details.ends_with(&ending))
            .unwrap()
    };
    assert_eq!(seen.pending_gang_resource_requests.len(), 2);
    assert_eq!(gang("STRICT_SPREAD").requests.len(), 2);
    let (id, _) = gang("PACK").details.split_once(':').unwrap();
    let (in_group, itself) = (format!("CPU_group_{id}"), format!("bundle_group_{id}"));
    let (count, _) = pending(seen, &[(in_group.as_str(), 1.0), (itself.as_str(), 0.001)]).unwrap();
    assert_eq!(count, 1);
}

fn the_constraint_is_said(seen: &ClusterResourceState) {
    assert_eq!(seen.cluster_resource_constraints.len(), 1);
    let wanted = &seen.cluster_resource_constraints[0].resource_requests;
    let mut wanted: Vec<_> = wanted
        .iter()
        .map(|wanted| (wanted.request.clone().unwrap(), wanted.count))
        .map(|(request, count)| {
            (
                format!("{:?}", request.resources_bundle),
                request.label_selectors,
                count,
            )
        })
        .collect();
    wanted.sort_by_key(|(text, ..)| text.clone());
    assert_eq!(
        wanted,
        [
            (r#"{"CPU": 1.0}"#.to_owned(), vec![], 5),
            (r#"{"GPU": 2.0}"#.to_owned(), vec![], 1)
        ]
    );
}

async fn the_driver_is_said<H: Head>(head: &H, seen: &ClusterResourceState) {
    let node = &seen.node_states[0];
    let client = head.client();
    let jobs = client.get_all_job_info().await.unwrap().job_info_list;
    assert_eq!(jobs.len(), 1);
    assert!(!jobs[0].is_dead && jobs[0].end_time == 0 && jobs[0].start_time > 0);
    assert_eq!(
        jobs[0].driver_address.as_ref().unwrap().node_id,
        node.node_id
    );
    assert_eq!(jobs[0].driver_ip_address, node.node_ip_address);
    let session = client
        .internal_kv_get(b"session", b"session_name")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(session, seen.cluster_session_name.as_bytes());
}

async fn a_raylet_and_the_gcs_tell_the_same<H: Head>(head: &H) {
    let nodes = head
        .client()
        .get_all_node_info()
        .await
        .unwrap()
        .node_info_list;
    let address = format!(
        "{}:{}",
        nodes[0].node_manager_address, nodes[0].node_manager_port
    );
    let load = head
        .raylets()
        .get_resource_load(&address)
        .await
        .unwrap()
        .resources
        .unwrap();
    let usage = head.client().get_all_resource_usage().await.unwrap();
    let batch = usage.resource_usage_data.unwrap().batch;
    assert_eq!(batch.len(), 1);
    assert_eq!(batch[0].node_id, load.node_id);
    for told in [&load, &batch[0]] {
        let (ready, infeasible, backlog, selectors) = at_raylet(told, &[("CPU", 8.0)]);
        assert_eq!((ready, infeasible, backlog), (0, 3, 0));
        assert_eq!(selectors, [LabelSelector::default()]);
        let (ready, infeasible, backlog, _) = at_raylet(told, &[("CPU", 1.0)]);
        assert_eq!((ready, infeasible, backlog), (10, 0, 20));
        let (.., selectors) = at_raylet(told, &[("CPU", 3.0)]);
        assert_eq!(selectors.len(), 2);
    }
    assert_eq!(load.resources_total["CPU"], 2.0);
    assert!(!load.is_draining && load.idle_duration_ms == 0);
}

async fn an_actor_goes_to_a_node_that_fits_and_has_the_labels<H: Head>(head: H) {
    let labelled = |name: &str, zone: &str| WorkerOptions {
        labels: format!("zone={zone}"),
        ..WorkerOptions::named(name)
    };
    let a = head.worker(labelled("a", "a")).await;
    let b = head.worker(labelled("b", "b")).await;
    head.user(&[
        "actor",
        "one",
        "--num-cpus=2",
        r#"--label-selector={"zone": "b"}"#,
    ])
    .await;
    until(&head, &b.id(), "the actor where its label is", |node| {
        node.status() == NodeStatus::Running && !node.available_resources.contains_key("CPU")
    })
    .await;
    head.user(&[
        "actor",
        "two",
        "--num-cpus=1",
        r#"--label-selector={"zone": "b"}"#,
        "--no-wait",
    ])
    .await;
    let waiting = eventually("one that waits for room", async || {
        pending(&state(&head).await, &[("CPU", 1.0)])
    })
    .await;
    assert_eq!(waiting.0, 1);
    head.user(&["actor", "large", "--num-cpus=64", "--no-wait"])
        .await;
    let large = eventually("one that fits nowhere", async || {
        pending(&state(&head).await, &[("CPU", 64.0)])
    })
    .await;
    assert_eq!(large.0, 1);
    assert_eq!(
        until(&head, &a.id(), "nothing to do", |node| node.status()
            == NodeStatus::Idle)
        .await
        .instance_id,
        "a"
    );
    head.user(&["kill", "one"]).await;
    eventually("the one that waited runs", async || {
        let state = state(&head).await;
        let runs = pending(&state, &[("CPU", 1.0)]).is_none();
        let on_b = state.node_states.iter().any(|node| {
            node.node_id == b.id() && node.available_resources.get("CPU") == Some(&1.0)
        });
        (runs && on_b).then_some(())
    })
    .await;
}

async fn with_v2_off_the_constraint_is_a_key<H: Head>(head: H) {
    let client = head.client();
    let flag = client
        .internal_kv_get(b"__autoscaler", b"__autoscaler_v2_enabled")
        .await
        .unwrap();
    assert_eq!(flag.as_deref(), Some(b"0".as_slice()));
    let key: (&[u8], &[u8]) = (b"", b"autoscaler_resource_request");
    assert_eq!(client.internal_kv_get(key.0, key.1).await.unwrap(), None);
    let ask = async |words: &[&str]| {
        head.user(words).await;
        let value = client.internal_kv_get(key.0, key.1).await.unwrap().unwrap();
        serde_json::from_slice::<serde_json::Value>(&value).unwrap()
    };
    let asked = ask(&["request", r#"--bundles=[{"CPU": 1}, {"GPU": 2}]"#]).await;
    assert_eq!(asked, serde_json::json!([{"CPU": 1}, {"GPU": 2}]));
    assert_eq!(
        ask(&["request", "--num-cpus=2"]).await,
        serde_json::json!([{"CPU": 1}, {"CPU": 1}])
    );
    assert_eq!(
        ask(&["request", "--num-cpus=0"]).await,
        serde_json::json!([])
    );
    head.user(&["actor", "large", "--num-cpus=64", "--no-wait"])
        .await;
    let seen = eventually("demand as with v2", async || {
        let state = state(&head).await;
        pending(&state, &[("CPU", 64.0)]).is_some().then_some(state)
    })
    .await;
    assert!(seen.cluster_resource_constraints.is_empty());
}
