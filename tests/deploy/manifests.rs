//! Every manifest goes through a real API server that refuses what it does not know.

use std::collections::BTreeSet;
use std::fs;

use http::Request;
use kube::Client;
use rayscaler::cli::argv;
use rayscaler::cli::{Command, Parsed, parse, run_options};
use rayscaler::config::METRICS_PORT;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::support::kube::KubeApi;
use crate::support::{self, stand_ins};
use crate::{deployed, deployed_as, project, ray_clusters};

/// Where each kind is created, below the namespace or the cluster.
const PATHS: [(&str, &str, &str); 10] = [
    ("RayCluster", "ray.io/v1", "rayclusters"),
    ("RayService", "ray.io/v1", "rayservices"),
    ("RayJob", "ray.io/v1", "rayjobs"),
    ("Pod", "v1", "pods"),
    ("ConfigMap", "v1", "configmaps"),
    ("Role", "rbac.authorization.k8s.io/v1", "roles"),
    (
        "RoleBinding",
        "rbac.authorization.k8s.io/v1",
        "rolebindings",
    ),
    ("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies"),
    ("PodMonitor", "monitoring.coreos.com/v1", "podmonitors"),
    (
        "PrometheusRule",
        "monitoring.coreos.com/v1",
        "prometheusrules",
    ),
];

/// Returns the shared API server, with the resources that `deploy/` needs besides the RayCluster.
///
/// Those of KubeRay come from `RAYSCALER_TEST_KUBERAY_CRDS` where it is set.
pub(crate) async fn api() -> &'static KubeApi {
    static READY: OnceCell<()> = OnceCell::const_new();
    let api = KubeApi::shared().await;
    READY
        .get_or_init(|| async {
            let client = api.admin_client().await;
            let has_real = support::env("RAYSCALER_TEST_KUBERAY_CRDS").is_some();
            for entry in fs::read_dir(project("tests/deploy/crd")).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap();
                if !(has_real && name.starts_with("ray")) {
                    install(&client, fs::read(&path).unwrap()).await;
                }
            }
            for (_, group_version, plural) in PATHS {
                served(&client, group_version, plural).await;
            }
        })
        .await;
    api
}

async fn install(client: &Client, yaml: Vec<u8>) {
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let request = Request::post(path).header("content-type", "application/yaml");
    let request = request.body(yaml).unwrap();
    client.request::<Value>(request).await.unwrap();
}

async fn served(client: &Client, group_version: &str, plural: &str) {
    let path = format!("{}/{plural}", base(group_version));
    stand_ins::eventually(&format!("{plural} to be served"), || async {
        let list = Request::get(&path).body(Vec::new()).unwrap();
        client.request_text(list).await.ok()
    })
    .await;
}

fn base(group_version: &str) -> String {
    match group_version {
        "v1" => "/api/v1".to_owned(),
        other => format!("/apis/{other}"),
    }
}

/// Creates an object in a dry run that refuses unknown fields.
pub(crate) async fn try_create(
    client: &Client,
    namespace: &str,
    object: &Value,
) -> Result<(), String> {
    let kind = object["kind"].as_str().ok_or("no kind")?;
    let known = PATHS.iter().find(|(name, ..)| *name == kind);
    let (_, group_version, plural) = known.ok_or(format!("unknown kind {kind}"))?;
    assert_eq!(object["apiVersion"], *group_version, "{kind}");
    let path = format!(
        "{}/namespaces/{namespace}/{plural}?dryRun=All&fieldValidation=Strict",
        base(group_version)
    );
    let request = Request::post(path).header("content-type", "application/json");
    let request = request.body(object.to_string().into_bytes()).unwrap();
    match client.request::<Value>(request).await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Creates the pods of a RayCluster's templates in the same way, as the RayCluster's own schema may keep them as they come.
pub(crate) async fn try_templates(
    client: &Client,
    namespace: &str,
    cluster: &Value,
) -> Result<(), String> {
    let groups = cluster["spec"]["workerGroupSpecs"].as_array();
    let templates = groups.into_iter().flatten().map(|group| &group["template"]);
    for template in templates.chain([&cluster["spec"]["headGroupSpec"]["template"]]) {
        let mut pod = template.clone();
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["name"] = json!("template");
        try_create(client, namespace, &pod).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_api_server_takes_every_manifest_to_the_last_field() {
    let api = api().await;
    let (client, namespace) = (api.admin_client().await, api.new_namespace().await);
    let mut kinds = BTreeSet::new();
    for (file, object) in deployed() {
        let tried = try_create(&client, &namespace, &object).await;
        assert_eq!(tried, Ok(()), "{file}");
        kinds.insert(object["kind"].as_str().unwrap().to_owned());
    }
    let expected = [
        "NetworkPolicy",
        "PodMonitor",
        "PrometheusRule",
        "RayCluster",
        "RayJob",
        "RayService",
        "Role",
        "RoleBinding",
    ];
    assert_eq!(kinds, expected.map(str::to_owned).into());
    for (file, cluster) in ray_clusters() {
        let tried = try_create(&client, &namespace, &cluster).await;
        assert_eq!(tried, Ok(()), "{file}");
        let tried = try_templates(&client, &namespace, &cluster).await;
        assert_eq!(tried, Ok(()), "{file}");
    }
}

#[tokio::test]
async fn a_misspelt_field_is_refused_wherever_it_stands() {
    let api = api().await;
    let (client, namespace) = (api.admin_client().await, api.new_namespace().await);
    let monitor = deployed_as("podmonitor.yaml");
    let rules = deployed_as("alerts.yaml");
    let cluster = deployed_as("raycluster.yaml");
    for (object, pointer) in [
        (&cluster, "/spec/autoscalerOptions"),
        (&cluster, "/spec/workerGroupSpecs/0"),
        (&monitor, "/spec/podMetricsEndpoints/0/relabelings/0"),
        (&rules, "/spec/groups/0/rules/0"),
        (&deployed_as("networkpolicy.yaml"), "/spec/ingress/0"),
    ] {
        let mut object = object.clone();
        object.pointer_mut(pointer).unwrap()["misspelt"] = json!("x");
        let error = try_create(&client, &namespace, &object).await.unwrap_err();
        assert!(
            error.contains("unknown field") && error.contains("misspelt"),
            "{pointer}: {error}"
        );
    }
    let mut cluster = cluster;
    cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["imagee"] = json!("x");
    let error = try_templates(&client, &namespace, &cluster)
        .await
        .unwrap_err();
    assert!(error.contains("imagee"), "{error}");
}

/// Returns the containers that start rayscaler by a command of their own.
fn own_commands() -> Vec<(String, Value)> {
    let clusters = ray_clusters().into_iter().flat_map(|(file, cluster)| {
        let spec = &cluster["spec"];
        let containers = &spec["headGroupSpec"]["template"]["spec"]["containers"];
        let mut all = containers.as_array().unwrap().clone();
        all.push(spec["autoscalerOptions"].clone());
        all.into_iter()
            .map(move |container| (file.clone(), container))
    });
    clusters
        .filter(|(_, container)| !container["command"].is_null())
        .collect()
}

/// Returns the words of a container's command and arguments as the kubelet hands them over.
pub(crate) fn argv_of(container: &Value) -> Vec<String> {
    let words =
        ["command", "args"].map(|list| container[list].as_array().cloned().unwrap_or_default());
    let words = words.concat();
    let replaced = words.iter().map(|word| {
        let word = word.as_str().unwrap();
        let word = word.replace("$(RAY_CLUSTER_NAME)", "demo");
        word.replace("$(RAY_CLUSTER_NAMESPACE)", "ns")
    });
    replaced.collect()
}

/// Reads a command line as the program does, with the environment of the container.
pub(crate) fn run_of(container: &Value) -> rayscaler::runtime::RunOptions {
    let lookup = |name: &str| {
        let env = container["env"].as_array().cloned().unwrap_or_default();
        let entry = env.iter().find(|entry| entry["name"] == name)?;
        let value = entry["value"].as_str().map(str::to_owned);
        value.or_else(|| {
            Some(
                if name.ends_with("NAMESPACE") {
                    "ns"
                } else {
                    "demo"
                }
                .to_owned(),
            )
        })
    };
    let invocation = argv::interpret(&argv_of(container), &lookup).unwrap();
    match parse(&invocation).unwrap() {
        Parsed::Command(Command::Run(arguments)) => run_options(arguments, &lookup).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn commands_and_arguments_are_those_of_the_program() {
    let containers = own_commands();
    assert_eq!(containers.len(), 4, "{containers:?}");
    for (file, container) in containers {
        let options = run_of(&container);
        assert_eq!(options.cluster_name, "demo", "{file}");
        assert_eq!(options.cluster_namespace, "ns", "{file}");
        let is_dry_run = file == "dry-run.yaml";
        assert_eq!(
            options.overrides.dry_run,
            is_dry_run.then_some(true),
            "{file}"
        );
        let port = options.overrides.metrics_port;
        assert_eq!(port, is_dry_run.then_some(44_218), "{file}");
        assert_eq!(options.notices, [], "{file}");
    }
}

#[test]
fn the_image_is_this_version_and_runs_with_no_more_than_it_needs() {
    let image = format!("example.com/rayscaler:{}", env!("CARGO_PKG_VERSION"));
    for (file, cluster) in ray_clusters() {
        let spec = &cluster["spec"];
        let ours = match file.as_str() {
            "dry-run.yaml" => &spec["headGroupSpec"]["template"]["spec"]["containers"][1],
            _ => &spec["autoscalerOptions"],
        };
        assert_eq!(ours["image"], image, "{file}");
        let context = &ours["securityContext"];
        assert_eq!(context["readOnlyRootFilesystem"], true, "{file}");
        assert_eq!(context["runAsNonRoot"], true, "{file}");
        assert_eq!(context["capabilities"]["drop"], json!(["ALL"]), "{file}");
    }
}

#[test]
fn ports_are_those_of_the_program() {
    let dry_run =
        &ray_clusters()[0].1["spec"]["headGroupSpec"]["template"]["spec"]["containers"][1];
    let declared = &dry_run["ports"][0];
    assert_eq!(declared["containerPort"], 44_218);
    let policy = deployed_as("networkpolicy.yaml");
    let ports = policy["spec"]["ingress"][0]["ports"].as_array().unwrap();
    let ports: Vec<i64> = ports
        .iter()
        .map(|it| it["port"].as_i64().unwrap())
        .collect();
    assert_eq!(ports, [i64::from(METRICS_PORT), 44_218]);
    let endpoints = &deployed_as("podmonitor.yaml")["spec"]["podMetricsEndpoints"];
    assert_eq!(endpoints[1]["port"], declared["name"]);
    let set = endpoints[0]["relabelings"].as_array().unwrap().iter();
    let addresses = set.filter(|rule| rule["targetLabel"] == "__address__");
    let ending = format!(":{METRICS_PORT}");
    assert!(addresses.clone().count() == 2);
    assert!(
        addresses
            .clone()
            .all(|rule| rule["replacement"].as_str().unwrap().ends_with(&ending))
    );
}

#[test]
fn the_examples_for_old_kuberay_have_only_the_fields_of_1_1() {
    let fields = |object: &Value| -> BTreeSet<String> {
        object.as_object().unwrap().keys().cloned().collect()
    };
    let of_options = [
        "env",
        "envFrom",
        "idleTimeoutSeconds",
        "image",
        "imagePullPolicy",
        "resources",
        "securityContext",
        "upscalingMode",
        "volumeMounts",
    ];
    let of_group = [
        "groupName",
        "maxReplicas",
        "minReplicas",
        "numOfHosts",
        "rayStartParams",
        "replicas",
        "scaleStrategy",
        "template",
    ];
    for file in ["raycluster-image-alone.yaml", "dry-run.yaml"] {
        let spec = &deployed_as(file)["spec"];
        let known = of_options.map(str::to_owned).into();
        let used = fields(&spec["autoscalerOptions"]);
        assert!(used.is_subset(&known), "{file}: {used:?}");
        let known = of_group.map(str::to_owned).into();
        for group in spec["workerGroupSpecs"].as_array().unwrap() {
            assert!(fields(group).is_subset(&known), "{file}: {group}");
            // What KubeRay does by itself only for `version: v2`.
            let policy = &group["template"]["spec"]["restartPolicy"];
            assert_eq!(policy, "Never", "{file}");
        }
    }
}

#[test]
fn our_own_check_finds_nothing_that_hurts_in_the_examples() {
    for file in [
        "raycluster.yaml",
        "raycluster-image-alone.yaml",
        "dry-run.yaml",
        "rayservice.yaml",
        "rayjob.yaml",
    ] {
        let path = project("deploy").join(file);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rayscaler"));
        let checked = command
            .arg("check")
            .arg("--raycluster")
            .arg(path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&checked.stdout);
        let errors = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{file}: {said}{errors}");
    }
}
