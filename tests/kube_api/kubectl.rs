//! What a person does with kubectl.

use super::SERVER;
use crate::support::kube_binaries;
use crate::world::World;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

const MANIFEST: &str = "
apiVersion: ray.io/v1
kind: RayCluster
metadata: {name: demo}
spec:
  headGroupSpec: {template: {spec: {containers: [{name: ray, image: ray}]}}}
  workerGroupSpecs: [{groupName: g, replicas: 1, template: {}}]
---
apiVersion: v1
kind: Pod
metadata: {name: p}
spec: {containers: [{name: c, image: 'i:1'}]}
";

struct Kubectl {
    world: World,
    program: PathBuf,
    kubeconfig: PathBuf,
    folder: tempfile::TempDir,
}

impl Kubectl {
    async fn new() -> Self {
        let world = World::new(SERVER).await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("manifest.yaml"), MANIFEST).unwrap();
        Self {
            program: kube_binaries::folder_with(&["kubectl"]).join("kubectl"),
            kubeconfig: world.api.admin_kubeconfig(),
            world,
            folder,
        }
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(self.folder.path())
            // Discovery is kept there; each run asks anew.
            .env("HOME", self.folder.path())
            .env("KUBECONFIG", &self.kubeconfig)
            .args(["--namespace", &self.world.namespace])
            .args(arguments.split(' '));
        command
    }

    /// Returns what it prints, errors too.
    async fn run(&self, arguments: &str) -> String {
        let output = self.command(arguments).output().await.unwrap();
        let texts = [output.stdout, output.stderr];
        let text = String::from_utf8(texts.concat()).unwrap();
        text.lines()
            .filter(|line| !line.starts_with("Warning"))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

#[tokio::test]
async fn manifests_are_created_changed_and_deleted() {
    let kubectl = Kubectl::new().await;
    let both = "raycluster.ray.io/demo created\npod/p created";
    assert_eq!(kubectl.run("create -f manifest.yaml").await, both);
    let again = kubectl.run("create -f manifest.yaml").await;
    assert!(
        again.contains("rayclusters.ray.io \"demo\" already exists"),
        "{again}"
    );
    let annotated = kubectl.run("annotate raycluster demo a=b").await;
    assert_eq!(annotated, "raycluster.ray.io/demo annotated");
    let conflict = kubectl.run("apply --server-side -f manifest.yaml").await;
    let expected = "Apply failed with 1 conflict: conflict with \"kubectl-create\" using ray.io/v1: .spec.workerGroupSpecs";
    assert!(conflict.contains(expected), "{conflict}");
    let forced = kubectl
        .run("apply --server-side --force-conflicts -f manifest.yaml")
        .await;
    assert!(
        forced.contains("raycluster.ray.io/demo serverside-applied"),
        "{forced}"
    );
    let applied = kubectl.run("apply -f manifest.yaml").await;
    assert!(applied.contains("pod/p configured"), "{applied}");
    let patch = "patch raycluster demo --type merge --patch {\"spec\":{\"suspend\":true}}";
    assert_eq!(kubectl.run(patch).await, "raycluster.ray.io/demo patched");
    let read = "get raycluster demo -o jsonpath={.spec.suspend}{.metadata.annotations.a}";
    assert_eq!(kubectl.run(read).await, "trueb");
    let deleted = kubectl.run("delete pod p").await;
    assert!(deleted.starts_with("pod \"p\" deleted"), "{deleted}");
    let deleted = kubectl.run("delete raycluster demo").await;
    assert!(
        deleted.starts_with("raycluster.ray.io \"demo\" deleted"),
        "{deleted}"
    );
    let gone = kubectl.run("get raycluster,pods").await;
    assert!(gone.starts_with("No resources found"), "{gone}");
}

#[tokio::test]
async fn a_manifest_with_a_typing_mistake_is_refused() {
    let kubectl = Kubectl::new().await;
    let mistaken = MANIFEST.replace("replicas: 1", "replcas: 1");
    std::fs::write(kubectl.folder.path().join("mistaken.yaml"), mistaken).unwrap();
    let refused = kubectl.run("create -f mistaken.yaml").await;
    let expected = "unknown field \"spec.workerGroupSpecs[0].replcas\"";
    assert!(refused.contains(expected), "{refused}");
}

#[tokio::test]
async fn tables_show_what_a_person_wants_to_know() {
    let kubectl = Kubectl::new().await;
    kubectl.run("create -f manifest.yaml").await;
    let pods = kubectl.run("get pods").await;
    let lines: Vec<Vec<&str>> = pods
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0], ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    assert_eq!(lines[1][..4], ["p", "0/1", "Pending", "0"]);
    let status = "patch raycluster demo --subresource status --type merge --patch {\"status\":{\"state\":\"ready\"}}";
    kubectl.run(status).await;
    let clusters = kubectl.run("get raycluster").await;
    assert!(clusters.starts_with("NAME "), "{clusters}");
    assert!(clusters.contains("ready"), "{clusters}");
}

#[tokio::test]
async fn changes_are_followed_as_they_happen() {
    let kubectl = Kubectl::new().await;
    kubectl.run("create -f manifest.yaml").await;
    let mut watching = kubectl
        .command("get raycluster --watch --output name")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut shown = watching.stdout.take().unwrap();
    let mut text = String::new();
    let mut until_shown = async |times: usize| {
        let reading = async {
            let mut buffer = [0; 1024];
            while text.matches("raycluster.ray.io/demo").count() < times {
                let count = shown.read(&mut buffer).await.unwrap();
                assert!(count > 0, "{text}");
                text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
            }
        };
        tokio::time::timeout(Duration::from_secs(60), reading)
            .await
            .unwrap();
    };
    // Once for what is there, once for each change.
    until_shown(1).await;
    kubectl.run("annotate raycluster demo a=b").await;
    until_shown(2).await;
    kubectl.run("delete raycluster demo").await;
    until_shown(3).await;
    watching.kill().await.unwrap();
}
