//! A cluster whose parts can be killed, and the three times at which that is done.

use std::fs;
use std::io::Write;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use kube::ResourceExt;
use rayscaler::wire::gcs::ray::rpc::autoscaler::NodeState;

use crate::support::ray_process::kill;
use crate::support::raycluster::{Group, Manifest};
use crate::support::wait::eventually;
use crate::world::{Options, Parts, World, sidecar};

/// How soon capacity is right after everything answers again: the promise. Each test prints how long it took.
const RIGHT_WITHIN: Duration = Duration::from_secs(10);

/// Seconds without work after which a worker goes.
pub(crate) const IDLE: u32 = 3;

/// Returns the usual world.
pub(crate) fn options() -> Options {
    Options::of(Parts::Real)
}

/// Returns a cluster with one group of one processor, at most four workers; Ray's containers are restarted in place.
pub(crate) fn cluster() -> Manifest {
    Manifest::new("c")
        .set("/spec/autoscalerOptions/idleTimeoutSeconds", IDLE)
        .group(Group::new("small").replicas(0, 0, 4))
}

/// A process of this machine.
struct Process {
    id: u32,
    words: Vec<String>,
}

/// Returns the processes whose words are so.
fn processes(is: impl Fn(&Process) -> bool) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let all = ids.filter_map(|id: u32| {
        let bytes = fs::read(format!("/proc/{id}/cmdline")).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let words = text.split('\0').map(str::to_owned).collect();
        Some(Process { id, words })
    });
    all.filter(is).map(|process| process.id).collect()
}

/// Returns the processes of a sidecar, the parent among them, by the port that it serves metrics on.
pub(crate) fn sidecars(world: &World) -> Vec<u32> {
    let variable = format!("AUTOSCALER_METRIC_PORT={}", world.admin_port);
    let program = fs::canonicalize(sidecar()).unwrap();
    processes(|process| {
        let path = fs::read_link(format!("/proc/{}/exe", process.id));
        path.is_ok_and(|path| path == program)
            && environment(process.id).any(|entry| entry == variable)
    })
}

/// Returns the parent of a sidecar's processes.
pub(crate) fn parent_of(sidecars: &[u32]) -> u32 {
    let parent = |id: u32| -> Option<u32> {
        let line = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let (_, rest) = line.rsplit_once(") ")?;
        rest.split(' ').nth(1)?.parse().ok()
    };
    let is_first = |id: &&u32| parent(**id).is_some_and(|parent| !sidecars.contains(&parent));
    *sidecars.iter().find(is_first).unwrap()
}

/// Returns the variables that a process was started with.
pub(crate) fn environment(id: u32) -> impl Iterator<Item = String> {
    let bytes = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let entries: Vec<String> = text.split('\0').map(str::to_owned).collect();
    entries.into_iter()
}

/// Kills the GCS, as a crash would.
pub(crate) fn kill_gcs(world: &World) {
    let flag = format!("--gcs_server_port={}", world.gcs_port());
    let found = processes(|process| {
        process.words[0].ends_with("/gcs_server") && process.words.contains(&flag)
    });
    assert_eq!(found.len(), 1);
    kill(found);
}

/// Returns a worker's pod with an actor in it.
pub(crate) async fn a_busy_pod(world: &World) -> String {
    let is_busy = |node: &NodeState| {
        node.ray_node_type_name != "headgroup" && !node.available_resources.contains_key("CPU")
    };
    eventually("a worker with an actor", async || {
        let mut nodes = world.nodes().await;
        nodes.retain(is_busy);
        nodes.pop().map(|node| node.instance_id)
    })
    .await
}

/// Kills the raylet of a pod, as a crash would.
pub(crate) async fn kill_raylet(world: &World, pod: &str) {
    let pod = world.cluster.pods().get(pod).await.unwrap();
    let flag = format!("--node_ip_address={}", pod.status.unwrap().pod_ip.unwrap());
    let found =
        processes(|process| process.words[0].ends_with("/raylet") && process.words.contains(&flag));
    assert_eq!(found.len(), 1);
    kill(found);
}

/// Waits until a GCS answers that knows a head which was not among `before`, and the workers that were, unless
/// they have been taken back meanwhile.
pub(crate) async fn new_head_is_known(world: &World, before: &[NodeState]) {
    let is_worker = |node: &&NodeState| node.ray_node_type_name != "headgroup";
    eventually("a new head", async || {
        let now = world.nodes().await;
        let is_new = |node: &NodeState| before.iter().all(|old| old.node_id != node.node_id);
        let has_head = now.iter().any(|node| !is_worker(&node) && is_new(node));
        let staying = world.cluster.names_of("small").await;
        let stays = |node: &&NodeState| staying.contains(&node.instance_id);
        let mut workers = before.iter().filter(is_worker).filter(stays);
        let is_there = |old: &NodeState| now.iter().any(|node| node.node_id == old.node_id);
        (has_head && workers.all(is_there)).then_some(())
    })
    .await;
}

/// Waits until the only group is asked to have so many replicas and has as many pods, for no longer than
/// the promise, and says how long that took; `more` is how long idle workers take to become so.
pub(crate) async fn is_right(world: &World, replicas: usize, more: Duration) {
    if !becomes_right(world, replicas, more).await {
        not_right(world, replicas).await;
    }
}

async fn not_right(world: &World, replicas: usize) -> ! {
    let pods = world.cluster.pods_of("small").await;
    let pods: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
    panic!(
        "not {replicas} replicas in time but {}, pods {pods:?}\n{}\n{}",
        world.replicas_now(0).await,
        world.admin("v1/status").await,
        world.sidecar_log()
    );
}

#[expect(clippy::disallowed_methods, reason = "says how long it took")]
async fn becomes_right(world: &World, replicas: usize, more: Duration) -> bool {
    let began = Instant::now();
    let right = async {
        loop {
            let wish = usize::try_from(world.replicas_now(0).await).unwrap();
            let pods = world.cluster.pods_of("small").await;
            let staying = world.cluster.names_of("small").await;
            if [wish, pods.len(), staying.len()] == [replicas; 3] {
                let took = began.elapsed().saturating_sub(more);
                let mut out = std::io::stdout().lock();
                writeln!(out, "{replicas} replicas are right after {took:.1?}").unwrap();
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let right = tokio::time::timeout(RIGHT_WITHIN + more, right);
    right.await.is_ok()
}

/// Returns the processes that actors answer from.
pub(crate) async fn pids(world: &World, actors: &[&str]) -> String {
    let printed = world.user(&[&["pids"], actors].concat()).await;
    printed.lines().last().unwrap().to_owned()
}

/// Says what becomes of the actors when something dies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Actors {
    /// Whether the first one answers from the same process to the end.
    pub survive: bool,
    /// Whether Ray may tell twice of the second one while it waits.
    ///
    /// Seen: the lease for an actor that the old GCS asked of the raylet of the actor's maker waits on beside the new
    /// GCS's until a worker takes it. Ray tells of two requests then, and a worker comes and goes for the second.
    pub may_be_told_twice: bool,
}

/// They live on, each in its process.
pub(crate) const SURVIVORS: Actors = Actors {
    survive: true,
    may_be_told_twice: false,
};

/// They die, and are made again.
pub(crate) const VICTIMS: Actors = Actors {
    survive: false,
    ..SURVIVORS
};

/// They live on, and another GCS asks for what the old one has asked for.
pub(crate) const ASKED_AGAIN: Actors = Actors {
    may_be_told_twice: true,
    ..SURVIVORS
};

/// Waits until two replicas are right; where Ray tells of the second one's request twice, three are, until it does not.
async fn two_are_right(world: &World, actors: Actors) {
    if !actors.may_be_told_twice {
        return is_right(world, 2, Duration::ZERO).await;
    }
    if becomes_right(world, 2, Duration::ZERO).await {
        return;
    }
    if world.requests_peak() != 2 {
        not_right(world, 2).await;
    }
    let wish = world.replicas_now(0).await;
    assert!((2..=3).contains(&wish), "{wish}\n{}", world.sidecar_log());
    have_come(world, 1).await;
    is_right(world, 2, Duration::from_secs(IDLE.into())).await;
}

/// Waits until every pod has its raylet, and Ray tells of no more requests than that.
async fn have_come(world: &World, requests: i64) {
    let what = format!("a raylet in every pod, and {requests} requests or less");
    eventually(&what, async || {
        let reply = world.gcs().get_cluster_resource_state().await.ok()?;
        let waiting = reply.cluster_resource_state?.pending_resource_requests;
        let told: i64 = waiting.iter().map(|request| request.count).sum();
        let nodes = world.nodes().await;
        let has_raylet = |pod: &String| nodes.iter().any(|node| node.instance_id == *pod);
        let pods = world.cluster.names_of("small").await;
        (told <= requests && pods.iter().all(has_raylet)).then_some(())
    })
    .await;
}

/// Grows from one worker with an actor to two, rests, and shrinks to one; each time `strike` hits, and comes
/// back when all that it hit answers again. No replica too many is asked for meanwhile, but one for a request that Ray
/// was seen to tell twice of.
pub(crate) async fn plays(world: &mut World, actors: Actors, strike: impl AsyncFn(&mut World)) {
    let restarts = if actors.survive { "0" } else { "-1" };
    let restarts = format!("--restarts={restarts}");
    let actor = |name| ["actor", name, "--num-cpus=1", &restarts];
    world.user(&actor("one")).await;
    let first = pids(world, &["one"]).await;

    strike(world).await;
    is_right(world, 1, Duration::ZERO).await;
    has_peaked(world, 1..=1).await;

    // A GCS that comes back has to be asked again for what was not there yet, and a user who left cannot.
    let make = ["make", "one", "two", "--num-cpus=1", &restarts];
    let words = [&actor("two")[..], &["--no-wait"]].concat();
    world
        .user(if actors.survive { &make } else { &words })
        .await;
    strike(world).await;
    two_are_right(world, actors).await;
    let both = pids(world, &["one", "two"]).await;
    let is_told_twice = actors.may_be_told_twice && world.requests_peak() == 2;
    if is_told_twice {
        // The worker for the other one may come only now, and goes.
        have_come(world, 0).await;
        is_right(world, 2, Duration::from_secs(IDLE.into())).await;
    }
    has_peaked(world, if is_told_twice { 2..=3 } else { 2..=2 }).await;

    world.user(&["kill", "two"]).await;
    strike(world).await;
    is_right(world, 1, Duration::from_secs(IDLE.into())).await;
    let last = pids(world, &["one"]).await;
    if actors.survive {
        assert_eq!(first, last);
        assert!(both.starts_with(first.trim_end_matches(']')), "{both}");
    }
    has_peaked(world, 1..=2).await;
}

/// Checks the most replicas that were asked for since the last time.
async fn has_peaked(world: &World, allowed: RangeInclusive<i64>) {
    // While the API server is away the guard sees nothing.
    let peak = eventually("a look of the guard", async || {
        Some(world.replicas_peak()).filter(|peak| *peak > 0)
    })
    .await;
    assert!(allowed.contains(&peak), "{peak}\n{}", world.sidecar_log());
    world.forget_peaks();
}
