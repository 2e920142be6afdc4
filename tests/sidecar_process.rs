//! The program itself, started as in a pod, with an API server and nothing else.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/ray_access.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]
mod ray_access;
mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, DeleteParams};
use ray_access::{CLUSTER, RayAccess};
use serde_json::json;
use support::process::{Program, Running, Start as _};
use support::ray_process::signal;
use support::wait::{eventually, free_port};

struct Sidecar {
    process: Running,
    port: u16,
    log: PathBuf,
}

impl Sidecar {
    async fn start(access: &RayAccess<'_>) -> Self {
        Self::start_with(access, None).await
    }

    async fn start_with(access: &RayAccess<'_>, config: Option<&Path>) -> Self {
        let token = access.api.sidecar_token(&access.namespace, CLUSTER).await;
        let kubeconfig = access.api.kubeconfig_for(&token);
        let (port, log) = (free_port(), access.folder().join("sidecar.log"));
        let mut program = Program::new(env!("CARGO_BIN_EXE_rayscaler"), &log)
            .env("RAY_CLUSTER_NAME", CLUSTER)
            .env("RAY_CLUSTER_NAMESPACE", &access.namespace)
            .env("AUTOSCALER_METRIC_PORT", port.to_string())
            .arg("run")
            .arg(format!("--kubeconfig={}", kubeconfig.display()));
        let config = config.map(|path| path.display().to_string());
        program.env.push(("RAYSCALER_CONFIG".to_owned(), config));
        Self {
            process: program.start(),
            port,
            log,
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    async fn logs(&self, words: &str) {
        eventually(words, async || self.log().contains(words).then_some(())).await;
    }

    /// Returns status and text of an answer of the admin port; `None` while there is none.
    async fn ask(&self, path: &str) -> Option<(u16, String)> {
        let url = format!("http://127.0.0.1:{}/{path}", self.port);
        let reply = reqwest::get(url).await.ok()?;
        Some((reply.status().as_u16(), reply.text().await.ok()?))
    }

    /// Waits until `rayscaler status` prints these words, and returns all it prints.
    async fn shows(&self, words: &str) -> String {
        let address = format!("--address=127.0.0.1:{}", self.port);
        eventually(words, async || {
            let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_rayscaler"));
            let output = command.args(["status", &address]).output().await.ok()?;
            let shown = String::from_utf8_lossy(&output.stdout).into_owned();
            shown.contains(words).then_some(shown)
        })
        .await
    }

    async fn status(&self, path: &str) -> Option<u16> {
        Some(self.ask(path).await?.0)
    }

    /// Waits until the port answers that it lives, and says that it is not ready.
    async fn lives_unready(&self) {
        eventually("the admin port", async || self.status("livez").await).await;
        assert_eq!(self.status("livez").await, Some(200));
        assert_eq!(self.status("readyz").await, Some(503));
        assert_eq!(self.process.exit_code(), None, "{}", self.log());
    }

    fn child(&self) -> Option<u32> {
        let id = self.process.pid();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    async fn stops(&self) {
        self.process.signal("TERM").unwrap();
        let code = self.process.wait(Duration::from_secs(2)).await;
        assert_eq!(code, Some(0), "{}", self.log());
    }
}

/// Names a port for the GCS at which nobody listens.
async fn without_gcs(access: &RayAccess<'_>) {
    let port = free_port().to_string();
    let head = json!({"rayStartParams": {"port": port}});
    access.edit(&json!({"spec": {"headGroupSpec": head}})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raycluster_that_comes_late_is_waited_for() {
    let access = RayAccess::new(&json!([]), &[]).await;
    access.delete().await;
    let sidecar = Sidecar::start(&access).await;
    sidecar.logs("cannot read the raycluster yet").await;
    sidecar.lives_unready().await;
    assert!(!sidecar.log().contains("waiting for the gcs"));
    access.create(&json!([])).await;
    without_gcs(&access).await;
    sidecar.logs("waiting for the gcs").await;
    sidecar.lives_unready().await;
    sidecar.stops().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_gcs_it_lives_and_stops_when_told() {
    let access = RayAccess::new(&json!([]), &[]).await;
    without_gcs(&access).await;
    let sidecar = Sidecar::start(&access).await;
    sidecar.logs("waiting for the gcs").await;
    sidecar.lives_unready().await;
    let (_, metrics) = sidecar.ask("metrics").await.unwrap();
    assert!(metrics.contains("rayscaler_gcs_calls_total"), "{metrics}");
    let shown = sidecar.shows("gcs cannot be read: ").await;
    let first = format!("RayCluster {}/{CLUSTER}  rayscaler ", access.namespace);
    assert!(shown.starts_with(&first), "{shown}");
    assert!(shown.contains("nothing was decided yet; "), "{shown}");
    sidecar.stops().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_file_that_is_bad_at_the_start_is_shown_and_waited_for() {
    let access = RayAccess::new(&json!([]), &[]).await;
    without_gcs(&access).await;
    let config = access.folder().join("config.yaml");
    let write = |rest: &str| {
        let text = format!("apiVersion: rayscaler.io/v1alpha1\nkind: RayscalerConfig\n{rest}");
        std::fs::write(&config, text).unwrap();
    };
    write("scaling: {pausd: true}\n");
    let sidecar = Sidecar::start_with(&access, Some(&config)).await;
    sidecar.lives_unready().await;
    let shown = sidecar.shows("is not accepted: ").await;
    assert!(shown.contains("scaling.pausd"), "{shown}");
    let (_, metrics) = sidecar.ask("metrics").await.unwrap();
    let refused = "rayscaler_config_reloads_total{result=\"refused\"} 1";
    assert!(metrics.contains(refused), "{metrics}");
    let age = "rayscaler_source_age_seconds{source=\"config\"}";
    assert!(metrics.contains(age), "{metrics}");
    let child = sidecar.child();
    // Another mistake is told as well.
    write("scaling: {paused: 7}\n");
    sidecar.shows("scaling.paused").await;
    assert!(!sidecar.log().contains("waiting for the gcs"));
    write("scaling: {paused: true}\n");
    sidecar.logs("waiting for the gcs").await;
    let shown = sidecar.shows("gcs cannot be read: ").await;
    assert!(!shown.contains("is not accepted"), "{shown}");
    sidecar.lives_unready().await;
    assert_eq!(sidecar.child(), child, "started again");
    sidecar.stops().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_when_told_while_it_waits_for_a_config_file() {
    let access = RayAccess::new(&json!([]), &[]).await;
    let config = access.folder().join("not there.yaml");
    let sidecar = Sidecar::start_with(&access, Some(&config)).await;
    sidecar.shows("cannot read config file").await;
    sidecar.stops().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_child_is_started_again_and_counted() {
    let access = RayAccess::new(&json!([]), &[]).await;
    without_gcs(&access).await;
    let sidecar = Sidecar::start(&access).await;
    sidecar.lives_unready().await;
    let first = sidecar.child().unwrap();
    signal("KILL", [first]);
    let second = eventually("another child", async || {
        sidecar.child().filter(|id| *id != first)
    })
    .await;
    assert_ne!(second, sidecar.process.pid());
    let counted = eventually("the metric", async || {
        let (_, metrics) = sidecar.ask("metrics").await?;
        let mut lines = metrics.lines();
        lines
            .find(|line| {
                line.starts_with("rayscaler_child_restarts_total{") && line.ends_with(" 1")
            })
            .map(str::to_owned)
    })
    .await;
    assert!(counted.contains("cause=\"kill\""), "{counted}");
    sidecar.lives_unready().await;
    sidecar.stops().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_right_it_lives_and_says_what_is_missing() {
    let access = RayAccess::new(&json!([]), &[]).await;
    let bindings: Api<RoleBinding> = Api::namespaced(access.admin.clone(), &access.namespace);
    let params = DeleteParams::default();
    bindings.delete(CLUSTER, &params).await.unwrap();
    let sidecar = Sidecar::start(&access).await;
    sidecar.logs("cannot read the raycluster yet").await;
    sidecar.logs("the role does not allow this").await;
    assert!(sidecar.log().contains("403"), "{}", sidecar.log());
    sidecar.lives_unready().await;
    sidecar.stops().await;
}
