//! The admin port over real HTTP, on a free port.
#![cfg(feature = "sidecar")]
#![expect(clippy::unwrap_used, reason = "test")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rayscaler::admin::{self, AdminState, LastPass};
use rayscaler::model::{
    ClusterSnapshot, Completeness, GroupDecision, History, ScaleDecision, Timestamp,
};
use rayscaler::report::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

/// Holds a served admin port and its time.
struct Port {
    state: Arc<AdminState>,
    address: SocketAddr,
    now: Arc<AtomicI64>,
    stop: watch::Sender<bool>,
}

impl Port {
    async fn start(configure: impl FnOnce(AdminState) -> AdminState) -> Self {
        let now = Arc::new(AtomicI64::new(0));
        let clock = Arc::clone(&now);
        let clock = Arc::new(move || Timestamp::from_ms(clock.load(Ordering::Relaxed)));
        let state = Arc::new(configure(AdminState::new(Metrics::new(), clock, 1_000)));
        let (stop, stopped) = watch::channel(false);
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        tokio::spawn(admin::run(free, Arc::clone(&state), stopped));
        let address = listening(&state).await;
        Self {
            state,
            address,
            now,
            stop,
        }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let response = reqwest::get(format!("http://{}{path}", self.address))
            .await
            .unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    fn set_now(&self, ms: i64) {
        self.now.store(ms, Ordering::Relaxed);
    }

    fn decide(&self, is_complete: bool, decision: ScaleDecision) {
        let at = is_complete.then_some(Timestamp::default());
        let snapshot = ClusterSnapshot {
            uid: "u-1".to_owned(),
            completeness: Completeness {
                gcs_at: at,
                pods_at: at,
                raycluster_at: at,
            },
            ..ClusterSnapshot::default()
        };
        let moment = Timestamp::from_ms(self.now.load(Ordering::Relaxed));
        self.state.decided(LastPass {
            at: moment,
            outcome: "patched".to_owned(),
            outcome_detail: String::new(),
            is_dry_run: false,
            snapshot: Arc::new(snapshot),
            decision: Arc::new(decision),
            memory: Arc::new(History::default()),
        });
    }
}

async fn listening(state: &AdminState) -> SocketAddr {
    let mut listening = state.listening();
    let deadline = Duration::from_secs(30);
    let bound = tokio::time::timeout(deadline, listening.wait_for(Option::is_some)).await;
    bound.unwrap().unwrap().unwrap()
}

fn growth(to: u32) -> ScaleDecision {
    ScaleDecision {
        groups: vec![GroupDecision {
            name: "g".into(),
            replicas_from: 0,
            replicas_to: to,
            remove: vec![],
            forget: vec![],
            reasons: vec![],
        }],
        ..ScaleDecision::default()
    }
}

#[tokio::test]
async fn it_is_ready_once_a_complete_snapshot_was_decided_and_stays_so() {
    let port = Port::start(|state| state).await;
    assert_eq!(port.get("/readyz").await.0, 503);
    port.decide(false, ScaleDecision::default());
    assert_eq!(port.get("/readyz").await.0, 503);
    port.decide(true, ScaleDecision::default());
    assert_eq!(port.get("/readyz").await.0, 200);
    port.decide(false, ScaleDecision::default());
    assert_eq!(port.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn it_is_alive_while_the_loop_turns() {
    let port = Port::start(|state| state).await;
    assert_eq!(port.get("/livez").await.0, 200);
    port.set_now(1_001);
    let (status, text) = port.get("/livez").await;
    assert!(status == 503 && text.contains("1001 ms"), "{status} {text}");
    port.state.beat(Timestamp::from_ms(1_001));
    assert_eq!(port.get("/livez").await.0, 200);
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let port = Port::start(|state| state).await;
    let response = reqwest::get(format!("http://{}/metrics", port.address))
        .await
        .unwrap();
    let content_type = response.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8");
    let text = response.text().await.unwrap();
    assert!(text.contains("# TYPE autoscaler_started_nodes_total counter\n"));
    assert!(!text.contains("# EOF"));
}

#[tokio::test]
async fn decisions_snapshot_and_configuration_are_json() {
    let port = Port::start(|state| state).await;
    for path in ["/v1/decision", "/v1/snapshot", "/v1/pass", "/v1/config"] {
        assert_eq!(port.get(path).await.0, 503, "{path}");
    }
    port.set_now(77);
    port.decide(true, growth(2));
    port.decide(true, growth(2));
    port.decide(true, ScaleDecision::default());
    port.state.set_config("{\"kind\":\"Config\"}");
    let json = async |path: &str| -> serde_json::Value {
        let (status, text) = port.get(path).await;
        assert_eq!(status, 200, "{path}");
        serde_json::from_str(&text).unwrap()
    };
    let history = json("/v1/history").await;
    assert_eq!(history.as_array().unwrap().len(), 1, "{history}");
    assert_eq!(history[0]["decision"]["groups"][0]["replicas_to"], 2);
    assert_eq!(json("/v1/decision").await["at"], 77);
    assert_eq!(json("/v1/snapshot").await["uid"], "u-1");
    let pass: LastPass = serde_json::from_value(json("/v1/pass").await).unwrap();
    assert_eq!((pass.at.as_ms(), pass.snapshot.uid.as_str()), (77, "u-1"));
    assert_eq!(json("/v1/config").await["kind"], "Config");
}

#[tokio::test]
async fn a_status_is_told_before_the_first_decision_too() {
    let port = Port::start(|state| state.of_cluster("ns", "demo")).await;
    let problem = admin::SourceProblem {
        source: "gcs".to_owned(),
        message: "connection refused".to_owned(),
    };
    port.state.sources_failed(vec![problem]);
    let status = async || -> admin::ClusterStatus {
        let (code, text) = port.get("/v1/status").await;
        assert_eq!(code, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    };
    let first = status().await;
    assert_eq!(
        (first.namespace.as_str(), first.cluster.as_str()),
        ("ns", "demo")
    );
    assert_eq!(first.decided_ago_ms, None);
    let gcs = &first.sources[0];
    assert_eq!((gcs.source.as_str(), gcs.age_ms), ("gcs", None));
    assert_eq!(gcs.error.as_deref(), Some("connection refused"));
    port.set_now(500);
    port.decide(true, growth(2));
    port.set_now(2_000);
    let then = status().await;
    assert_eq!(then.decided_ago_ms, Some(1_500));
    assert_eq!(then.sources[0].age_ms, Some(2_000));
    assert_eq!(then.last_change.unwrap().groups[0].to, 2);
}

#[tokio::test]
async fn the_history_is_bounded() {
    let port = Port::start(|state| state).await;
    for to in 1..=500 {
        port.decide(true, growth(to));
    }
    let history: serde_json::Value =
        serde_json::from_str(&port.get("/v1/history").await.1).unwrap();
    assert_eq!(history.as_array().unwrap().len(), 100);
    assert_eq!(history[99]["decision"]["groups"][0]["replicas_to"], 500);
}

#[tokio::test]
async fn nothing_can_be_changed_unless_the_configuration_allows_it() {
    let port = Port::start(|state| state).await;
    let client = reqwest::Client::new();
    for path in ["/metrics", "/livez", "/v1/config", "/v1/decision"] {
        let response = client
            .put(format!("http://{}{path}", port.address))
            .body("x")
            .send()
            .await;
        assert_eq!(response.unwrap().status(), 405, "{path}");
    }
    let url = format!("http://{}/v1/log-level", port.address);
    assert_eq!(
        client.put(url).body("debug").send().await.unwrap().status(),
        404
    );
}

#[tokio::test]
async fn the_log_level_can_be_set_where_it_is_allowed() {
    let levels = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&levels);
    let set = move |level: &str| {
        if level == "loud" {
            return Err("unknown level `loud`".to_owned());
        }
        seen.lock().unwrap().push(level.to_owned());
        Ok(())
    };
    let port = Port::start(|state| state.allow_log_level(Arc::new(set))).await;
    let url = format!("http://{}/v1/log-level", port.address);
    let put = async |body: String| {
        let request = reqwest::Client::new().put(&url).body(body);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(put("debug\n".to_owned()).await, 204);
    assert_eq!(put("loud".to_owned()).await, 400);
    assert_eq!(put("x".repeat(100_000)).await, 413);
    assert_eq!(*levels.lock().unwrap(), ["debug"]);
}

#[tokio::test]
async fn a_port_in_use_is_tried_again_until_it_is_free() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let state = AdminState::new(Metrics::new(), Arc::new(Timestamp::default), 1_000);
    let state = Arc::new(state);
    let (_stop, stopped) = watch::channel(false);
    let task = tokio::spawn(admin::run(address, Arc::clone(&state), stopped));
    tokio::task::yield_now().await;
    assert_eq!(*state.listening().borrow(), None);
    assert!(!task.is_finished());
    drop(taken);
    assert_eq!(listening(&state).await, address);
}

#[tokio::test]
async fn it_stops_when_told() {
    let port = Port::start(|state| state).await;
    let mut listening = port.state.listening();
    port.stop.send_replace(true);
    let deadline = Duration::from_secs(30);
    tokio::time::timeout(deadline, listening.wait_for(Option::is_none))
        .await
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(port.address).await.is_err());
}

#[tokio::test]
async fn only_the_questions_that_were_allowed_are_answered() {
    let port = Port::start(|state| state.answer_only(vec![admin::Question::Config])).await;
    port.state.set_config("{}");
    for (path, status) in [
        ("/v1/config", 200),
        ("/v1/decision", 404),
        ("/v1/snapshot", 404),
        ("/v1/pass", 404),
        ("/v1/status", 404),
        ("/v1/history", 404),
        ("/metrics", 200),
    ] {
        assert_eq!(port.get(path).await.0, status, "{path}");
    }
}

#[tokio::test]
async fn answers_that_nobody_reads_are_bounded() {
    let port = Port::start(|state| state).await;
    // About 12 MB, of which a socket takes less than a half.
    let group = growth(1).groups.remove(0);
    port.decide(
        true,
        ScaleDecision {
            groups: vec![group; 150_000],
            ..ScaleDecision::default()
        },
    );
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut silent = socket.connect(port.address).await.unwrap();
    let request = b"GET /v1/pass HTTP/1.1\r\nHost: here\r\n\r\n";
    silent.write_all(request).await.unwrap();
    let mut beginning = [0; 12];
    silent.read_exact(&mut beginning).await.unwrap();
    assert_eq!(&beginning, b"HTTP/1.1 200");
    let until = async |wanted: u16| {
        let deadline = Duration::from_secs(30);
        let asked = async { while port.get("/v1/pass").await.0 != wanted {} };
        tokio::time::timeout(deadline, asked).await.unwrap();
    };
    until(503).await;
    let (_, words) = port.get("/v1/pass").await;
    assert!(words.contains("have not read it yet"), "{words}");
    assert_eq!(port.get("/metrics").await.0, 200);
    assert_eq!(port.get("/readyz").await.0, 200);
    drop(silent);
    until(200).await;
}
