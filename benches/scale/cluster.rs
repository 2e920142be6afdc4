//! Large clusters, drawn from a seed.

use rayscaler::model::{
    AntiAffinity, ClusterSnapshot, Completeness, GangRequest, LabelConstraint, LabelOperator,
    LabelSelector, Labels, Node, NodeId, NodeKind, NodeStatus, NodeTemplate, PlacementStrategy,
    PodName, Quantity, ReplicaBounds, ReplicaName, ResourceDemand, ResourceMap, ResourceName,
    ResourceRequest, Timestamp, WorkerGroup, WorkerGroupName,
};

/// Says how large a cluster is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) nodes: usize,
    /// Whether nothing is free on any node.
    pub(crate) is_busy: bool,
    pub(crate) tasks: u64,
    pub(crate) shapes: u64,
    pub(crate) gangs: usize,
    pub(crate) groups: usize,
    /// Whether tasks choose groups by labels.
    pub(crate) labels: bool,
}

/// Holds a snapshot and its moment.
pub(crate) struct Cluster {
    pub(crate) snapshot: ClusterSnapshot,
    pub(crate) now: Timestamp,
}

const GIB: i64 = 1 << 30;

/// Draws numbers; the same ones on every machine.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }

    fn amount(&mut self, bound: i64) -> i64 {
        i64::try_from(self.below(u64::try_from(bound).unwrap())).unwrap()
    }
}

fn resources(entries: &[(&str, i64)]) -> ResourceMap {
    let whole = entries
        .iter()
        .map(|(name, count)| (ResourceName::from(*name), Quantity::from_whole(*count)));
    whole.collect()
}

fn group_name(at: usize) -> WorkerGroupName {
    WorkerGroupName::from(format!("group-{at:03}").as_str())
}

/// Cores of the nodes of a group.
fn cores(group: usize) -> i64 {
    [4, 8, 16, 32, 64][group % 5]
}

fn labels(group: usize) -> Labels {
    let zone = ("zone".to_owned(), format!("zone-{}", group % 7));
    let class = ("class".to_owned(), format!("class-{}", group % 40));
    Labels::from([
        zone,
        class,
        (
            "ray.io/node-group".to_owned(),
            group_name(group).to_string(),
        ),
    ])
}

impl Cluster {
    pub(crate) fn new(size: Size) -> Self {
        let now = Timestamp::from_ms(1_700_000_000_000);
        let mut draw = Draw(0x9e37_79b9_7f4a_7c15);
        let mut nodes = vec![head(now)];
        nodes.extend((0..size.nodes).map(|at| worker(at, size, now, &mut draw)));
        let fresh = Some(now);
        let mut snapshot = ClusterSnapshot {
            groups: (0..size.groups).map(|at| group(at, size)).collect(),
            nodes,
            demands: demands(size, &mut draw),
            gangs: (0..size.gangs).map(|at| gang(at, &mut draw)).collect(),
            completeness: Completeness {
                gcs_at: fresh,
                pods_at: fresh,
                raycluster_at: fresh,
            },
            ..ClusterSnapshot::default()
        };
        snapshot.sort();
        Self { snapshot, now }
    }
}

fn group(at: usize, size: Size) -> WorkerGroup {
    let present = (0..size.nodes)
        .filter(|node| node % size.groups == at)
        .count();
    WorkerGroup {
        surge: 0,
        has_replicas: true,
        name: group_name(at),
        index: at,
        replicas: u32::try_from(present).unwrap(),
        bounds: ReplicaBounds {
            min: 0,
            max: 100_000,
        },
        num_of_hosts: 1,
        priority: 0,
        idle_timeout_ms: None,
        template: NodeTemplate {
            resources: resources(&[("CPU", cores(at)), ("memory", cores(at) * 4 * GIB)]),
            host_zero_resources: ResourceMap::new(),
            labels: labels(at),
        },
        workers_to_delete: Vec::new(),
        has_scale_strategy: false,
        has_workers_to_delete: false,
    }
}

fn head(now: Timestamp) -> Node {
    let mut head = blank("head", now);
    head.kind = NodeKind::Head;
    head.group = WorkerGroupName::from(WorkerGroupName::HEAD);
    head.total = resources(&[("node:__internal_head__", 1)]);
    head.available = head.total.clone();
    head
}

fn blank(name: &str, now: Timestamp) -> Node {
    Node {
        name: PodName::from(name),
        node_id: None,
        raylet_address: None,
        kind: NodeKind::Worker,
        group: group_name(0),
        replica: ReplicaName::from(name),
        host_index: 0,
        status: NodeStatus::Running,
        total: ResourceMap::new(),
        available: ResourceMap::new(),
        labels: Labels::new(),
        idle_since: None,
        created_at: Some(now),
        waiting_reason: String::new(),
        pod_ip: String::new(),
    }
}

fn worker(at: usize, size: Size, now: Timestamp, draw: &mut Draw) -> Node {
    let group = at % size.groups;
    let mut node = blank(&format!("group-{group:03}-worker-{at:05}"), now);
    node.group = group_name(group);
    let own = format!("node:10.{}.{}.{}", at / 65_536, at / 256 % 256, at % 256);
    let (cpu, memory) = (cores(group), cores(group) * 4);
    node.total = resources(&[
        ("CPU", cpu),
        ("memory", memory * GIB),
        ("object_store_memory", GIB),
        (&own, 1),
    ]);
    let (free_cpu, free_memory) = if size.is_busy {
        (0, 0)
    } else {
        (draw.amount(cpu + 1), draw.amount(memory + 1))
    };
    node.available = resources(&[
        ("memory", free_memory * GIB),
        ("object_store_memory", GIB),
        (&own, 1),
    ]);
    if free_cpu > 0 {
        // Ray leaves out what is used up.
        node.available
            .set("CPU".into(), Quantity::from_whole(free_cpu));
    }
    node.labels = labels(group);
    let id = u64::try_from(at).unwrap().to_be_bytes();
    let mut bytes = [0; 28];
    bytes[20..].copy_from_slice(&id);
    node.node_id = NodeId::from_bytes(&bytes);
    node.labels
        .insert("ray.io/node-id".to_owned(), format!("{at:056x}"));
    if free_cpu == cpu {
        node.idle_since = Some(now.minus_ms(draw.below(120_000)));
    }
    node
}

fn demands(size: Size, draw: &mut Draw) -> Vec<ResourceDemand> {
    let mut demands = Vec::new();
    for shape in 0..size.shapes {
        let cpu = 1 + draw.amount(8);
        let mut entries = vec![("CPU", cpu)];
        if draw.below(2) == 0 {
            entries.push(("memory", (1 + draw.amount(16)) * GIB));
        }
        let mut request = ResourceRequest::of(resources(&entries));
        // A little more of each keeps shapes apart.
        request.resources.set(
            "CPU".into(),
            Quantity::from_units(cpu * 10_000 + i64::try_from(shape).unwrap()),
        );
        request.selectors = vec![LabelSelector::default()];
        if size.labels {
            request.selectors = vec![LabelSelector {
                constraints: vec![LabelConstraint {
                    key: "class".to_owned(),
                    operator: LabelOperator::In,
                    values: vec![format!("class-{}", shape % 40)],
                }],
            }];
        }
        demands.push(ResourceDemand {
            request,
            count: size.tasks / size.shapes,
        });
    }
    demands
}

fn gang(at: usize, draw: &mut Draw) -> GangRequest {
    let strategies = [
        PlacementStrategy::Pack,
        PlacementStrategy::Spread,
        PlacementStrategy::StrictPack,
        PlacementStrategy::StrictSpread,
    ];
    let strategy = strategies[at % 4];
    let id = format!("{at:036x}");
    let cpu = 1 + draw.amount(4);
    let mut request = ResourceRequest::of(resources(&[("CPU", cpu)]));
    let mut count = 4;
    if strategy == PlacementStrategy::StrictPack {
        (request, count) = (ResourceRequest::of(resources(&[("CPU", cpu * 4)])), 1);
    }
    if strategy == PlacementStrategy::StrictSpread {
        let label_name = format!("_PG_{id}");
        request.anti_affinity = Some(AntiAffinity {
            label_name,
            label_value: String::new(),
        });
    }
    let name = serde_json::to_value(strategy).unwrap();
    GangRequest {
        details: format!("{id}:{}|PENDING", name.as_str().unwrap()),
        strategy,
        bundles: vec![ResourceDemand { request, count }],
        fallbacks: Vec::new(),
        constraint_count: if at % 4 < 2 { 0 } else { 4 },
        bundle_count: 4,
    }
}
