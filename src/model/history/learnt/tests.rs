//! What is believed of nodes while templates are edited under them.

use crate::model::{
    ClusterSnapshot, History, Input, Labels, Node, NodeKind, NodeStatus, NodeTemplate, Quantity,
    ReplicaBounds, ResourceMap, ResourceName, SkippedGroup, Timestamp, WorkerGroup,
};

fn of(amounts: &[(&str, i64)]) -> ResourceMap {
    let amounts = amounts.iter();
    amounts
        .map(|(name, amount)| (ResourceName::from(*name), Quantity::from_whole(*amount)))
        .collect()
}

fn node(name: &str, created_at_ms: i64, total: &[(&str, i64)]) -> Node {
    Node {
        raylet_address: None,
        name: name.into(),
        pod_ip: String::new(),
        node_id: None,
        kind: NodeKind::Worker,
        group: "g".into(),
        replica: name.into(),
        host_index: 0,
        status: NodeStatus::Running,
        total: of(total),
        available: ResourceMap::new(),
        labels: Labels::new(),
        idle_since: None,
        created_at: Some(Timestamp::from_ms(created_at_ms)),
        waiting_reason: String::new(),
    }
}

fn snapshot(template: &[(&str, i64)], nodes: &[Node]) -> ClusterSnapshot {
    let group = WorkerGroup {
        surge: 0,
        has_replicas: true,
        name: "g".into(),
        index: 0,
        replicas: 0,
        bounds: ReplicaBounds { min: 0, max: 9 },
        num_of_hosts: 1,
        priority: 0,
        idle_timeout_ms: None,
        template: NodeTemplate {
            resources: of(template),
            ..NodeTemplate::default()
        },
        workers_to_delete: Vec::new(),
        has_scale_strategy: false,
        has_workers_to_delete: false,
    };
    ClusterSnapshot {
        groups: vec![group],
        nodes: nodes.to_vec(),
        ..ClusterSnapshot::default()
    }
}

/// Looks at `seen` at the second `at`, and returns what a new node will have.
fn look(history: &mut History, seen: &ClusterSnapshot, at: i64) -> String {
    let at = Timestamp::from_ms(at * 1_000);
    history.absorb(&Input::Observed(seen), at);
    let group = &seen.groups[0];
    let template = history.template(&group.name, &group.template);
    template.resources.to_string()
}

#[test]
fn a_node_that_is_older_than_an_edit_of_its_template_tells_nothing_of_it() {
    for edited in [8, 2] {
        let mut history = History::default();
        let old = [node("w1", 1_000, &[("CPU", 4), ("store", 7)])];
        let before = snapshot(&[("CPU", 4)], &old);
        assert_eq!(look(&mut history, &before, 10), "{CPU: 4, store: 7}");
        // What the edit did not touch is still known.
        let after = snapshot(&[("CPU", edited)], &old);
        let expected = format!("{{CPU: {edited}, store: 7}}");
        assert_eq!(look(&mut history, &after, 20), expected);
        let gone = snapshot(&[("CPU", edited)], &[]);
        assert_eq!(look(&mut history, &gone, 30), expected);
        // A node that is younger tells, also what differs from what was promised.
        let young = node("w2", 40_000, &[("CPU", 5)]);
        let younger = snapshot(&[("CPU", edited)], &[old[0].clone(), young]);
        assert_eq!(look(&mut history, &younger, 50), "{CPU: 5}");
        assert_eq!(history.differences().len(), 1);
    }
}

#[test]
fn at_the_first_look_a_pod_of_another_template_tells_nothing() {
    let mut history = History::default();
    let old = node("w1", 1_000, &[("CPU", 4)]);
    let mut seen = snapshot(&[("CPU", 8)], &[old]);
    seen.outdated.insert("w1".into());
    assert_eq!(look(&mut history, &seen, 10), "{CPU: 8}");
    assert_eq!(look(&mut history, &seen, 1_000), "{CPU: 8}");
    // All pods are changed on their way in: those that come now show what will come.
    seen.nodes.push(node("w2", 900_000, &[("CPU", 6)]));
    seen.outdated.insert("w2".into());
    assert_eq!(look(&mut history, &seen, 1_010), "{CPU: 6}");
    // One whose spec agrees is believed whatever its age.
    let mut history = History::default();
    let seen = snapshot(&[("CPU", 8)], &[node("w1", 1_000, &[("CPU", 4)])]);
    assert_eq!(look(&mut history, &seen, 10), "{CPU: 4}");
}

/// The sidecar may have begun after an edit that the pod's own spec does not show.
#[test]
fn a_node_that_was_there_before_denies_nothing_but_processors_and_memory() {
    let mut history = History::default();
    let old = node("w1", 1_000, &[("CPU", 4), ("A", 1), ("B", 2)]);
    let mut seen = snapshot(&[("CPU", 4), ("GPU", 1), ("B", 1)], &[old]);
    let promised = "{A: 1, B: 2, CPU: 4, GPU: 1}";
    assert_eq!(look(&mut history, &seen, 10), promised);
    seen.nodes.clear();
    assert_eq!(look(&mut history, &seen, 20), promised);
    // One that was made since then may.
    seen.nodes.push(node("w2", 30_000, &[("CPU", 4)]));
    assert_eq!(look(&mut history, &seen, 40), "{CPU: 4}");
    assert_eq!(history.differences().len(), 2);
}

#[test]
fn the_youngest_node_is_believed_and_each_tells_once() {
    let mut history = History::default();
    let mut seen = snapshot(&[("CPU", 8)], &[node("w1", 1_000, &[("CPU", 4)])]);
    look(&mut history, &seen, 10);
    seen.nodes.insert(0, node("w0", 2_000, &[("CPU", 7)]));
    assert_eq!(look(&mut history, &seen, 20), "{CPU: 7}");
    // It is resized in place afterwards.
    seen.nodes[0].total = of(&[("CPU", 9)]);
    assert_eq!(look(&mut history, &seen, 30), "{CPU: 7}");
    seen.nodes.remove(0);
    assert_eq!(look(&mut history, &seen, 40), "{CPU: 7}");
}

#[test]
fn an_edit_is_noticed_behind_one_that_could_not_be_read() {
    let mut history = History::default();
    let old = [node("w1", 1_000, &[("CPU", 4)])];
    look(&mut history, &snapshot(&[("CPU", 4)], &old), 10);
    let skipped = ClusterSnapshot {
        groups: Vec::new(),
        skipped: vec![SkippedGroup {
            name: "g".into(),
            index: 0,
            code: "bad_resources".to_owned(),
            detail: String::new(),
        }],
        ..snapshot(&[], &old)
    };
    history.absorb(&Input::Observed(&skipped), Timestamp::from_ms(20_000));
    let after = snapshot(&[("CPU", 8)], &old);
    assert_eq!(look(&mut history, &after, 30), "{CPU: 8}");
}

#[test]
fn a_clock_that_is_behind_makes_no_node_younger_than_an_edit() {
    let mut history = History::default();
    let old = [node("w1", 1_000_000, &[("CPU", 4)])];
    assert_eq!(
        look(&mut history, &snapshot(&[("CPU", 4)], &old), 10),
        "{CPU: 4}"
    );
    let mut seen = snapshot(&[("CPU", 8)], &old);
    seen.outdated.insert("w1".into());
    assert_eq!(look(&mut history, &seen, 20), "{CPU: 8}");
    assert_eq!(look(&mut history, &seen, 30), "{CPU: 8}");
    // One that is made afterwards tells.
    seen.nodes.push(node("w2", 1_001_000, &[("CPU", 7)]));
    assert_eq!(look(&mut history, &seen, 40), "{CPU: 7}");
    // Seen for the first time, an older one denies nothing that its spec does not say.
    let mut history = History::default();
    let seen = snapshot(&[("CPU", 4), ("GPU", 1)], &old);
    assert_eq!(look(&mut history, &seen, 10), "{CPU: 4, GPU: 1}");
}
