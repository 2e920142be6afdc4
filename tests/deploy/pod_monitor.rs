//! The PodMonitor, through Prometheus' own discovery: one target for each sidecar, at the right port.

use serde_json::{Map, Value, json};

use crate::deployed_as;
use crate::promtool::Promtool;

/// Returns one endpoint's rules in the words of Prometheus' own configuration.
fn rules(endpoint: usize) -> Vec<Value> {
    let monitor = deployed_as("podmonitor.yaml");
    let rules = monitor["spec"]["podMetricsEndpoints"][endpoint]["relabelings"]
        .as_array()
        .unwrap()
        .clone();
    let renamed = rules.iter().map(|rule| {
        let members = rule.as_object().unwrap().iter().map(|(name, value)| {
            let name = match name.as_str() {
                "sourceLabels" => "source_labels",
                "targetLabel" => "target_label",
                other => other,
            };
            (name.to_owned(), value.clone())
        });
        Value::Object(members.collect())
    });
    renamed.collect()
}

/// What Prometheus finds for one port of one container, or for a container without ports.
fn found(pod_ip: &str, container: &str, port: Option<(&str, u16)>) -> Value {
    let mut labels = Map::new();
    let mut set = |name: &str, value: &str| {
        labels.insert(format!("__meta_kubernetes_pod_{name}"), json!(value));
    };
    set("ip", pod_ip);
    set("name", "demo-head-abcde");
    set("container_name", container);
    set("label_ray_io_cluster", "demo");
    set("label_ray_io_node_type", "head");
    let host = if pod_ip.contains(':') {
        format!("[{pod_ip}]")
    } else {
        pod_ip.to_owned()
    };
    let address = match port {
        None => host,
        Some((name, number)) => {
            set("container_port_name", name);
            set("container_port_number", &number.to_string());
            format!("{host}:{number}")
        }
    };
    json!({"targets": [address], "labels": labels})
}

/// Returns address, job and cluster of every target that is left.
fn scraped(rules: &[Value], found: &[Value]) -> Vec<[String; 3]> {
    let promtool = Promtool::new();
    promtool.file("found.json", &Value::from(found).to_string());
    let scrape = json!({
        "job_name": "given",
        "relabel_configs": rules,
        "file_sd_configs": [{"files": ["found.json"]}],
    });
    promtool.file(
        "prometheus.yaml",
        &json!({"scrape_configs": [scrape]}).to_string(),
    );
    let printed = promtool.run(&[
        "check",
        "service-discovery",
        "--timeout=5s",
        "prometheus.yaml",
        "given",
    ]);
    let results: Value = serde_json::from_str(&printed).unwrap();
    let labels = results
        .as_array()
        .unwrap()
        .iter()
        .map(|result| &result["labels"]);
    let kept = labels.filter(|labels| labels.as_object().is_some_and(|labels| !labels.is_empty()));
    let text = |labels: &Value, name: &str| labels[name].as_str().unwrap_or_default().to_owned();
    kept.map(|labels| ["__address__", "job", "ray_io_cluster"].map(|name| text(labels, name)))
        .collect()
}

#[test]
fn the_container_without_a_port_is_scraped_once_at_ours() {
    for (ip, expected) in [
        ("10.1.2.3", "10.1.2.3:44217"),
        ("fd00::7", "[fd00::7]:44217"),
    ] {
        let found = [
            found(ip, "ray-head", Some(("gcs-server", 6379))),
            found(ip, "ray-head", Some(("as-metrics", 44_217))),
            found(ip, "autoscaler", None),
        ];
        let expected = [[expected, "rayscaler", "demo"].map(str::to_owned)];
        assert_eq!(scraped(&rules(0), &found), expected);
    }
}

#[test]
fn a_dry_run_is_scraped_at_the_port_it_declares() {
    let endpoint = &deployed_as("podmonitor.yaml")["spec"]["podMetricsEndpoints"][1];
    // What the operator makes of `port`.
    let keep = json!({"action": "keep", "source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": endpoint["port"]});
    let rules = [vec![keep], rules(1)].concat();
    let found = [
        found("10.1.2.3", "ray-head", Some(("gcs-server", 6379))),
        found("10.1.2.3", "rayscaler", Some(("rayscaler", 44_218))),
        found("10.1.2.3", "autoscaler", None),
    ];
    let expected = [["10.1.2.3:44218", "rayscaler-dry-run", "demo"].map(str::to_owned)];
    assert_eq!(scraped(&rules, &found), expected);
}
