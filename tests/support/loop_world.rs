//! The loop under virtual time, between sources and hands that do as a test says and note everything.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use rayscaler::act::{ActError, Applied, GroupChange, Order, PatchOutcome, Refusal};
use rayscaler::clock::Clock;
use rayscaler::config::Config;
use rayscaler::model::{Completeness, Departure, History, PodName, Timestamp, WorkerGroupName};
use rayscaler::observe::Observed;
use rayscaler::runtime::controller::{
    Act, Controller, ControllerSettings, Observe, Pass, Report, WriteHold,
};
use rayscaler::wire::kube_client::CallError;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::core::builders::{Cluster, NOW, group};

/// What the fakes note, in their order, with the milliseconds since the start.
pub type Notes = Arc<Mutex<Vec<(u64, String)>>>;

pub struct World {
    pub clock: Clock,
    pub notes: Notes,
    pub news: mpsc::UnboundedSender<Observed>,
    pub act_takes_ms: Arc<Mutex<u64>>,
    pub report_at: Arc<Mutex<Option<Timestamp>>>,
    /// What was remembered in the last pass.
    pub remembered: Arc<Mutex<History>>,
    pub settings: watch::Sender<ControllerSettings>,
    /// Tells that the RayCluster may be patched again.
    pub may_write: Arc<Notify>,
    pub stop: Option<oneshot::Sender<()>>,
    pub running: tokio::task::JoinHandle<usize>,
}

struct Sources {
    clock: Clock,
    notes: Notes,
    news: mpsc::UnboundedReceiver<Observed>,
    known: Observed,
    is_out_of_date: bool,
}

struct Hands {
    clock: Clock,
    notes: Notes,
    answers: Arc<Mutex<VecDeque<PatchOutcome>>>,
    takes_ms: Arc<Mutex<u64>>,
}

struct Ears {
    clock: Clock,
    notes: Notes,
    report_at: Arc<Mutex<Option<Timestamp>>>,
    remembered: Arc<Mutex<History>>,
}

fn note(notes: &Notes, clock: &Clock, text: impl Into<String>) {
    let at = clock.now().millis_since(NOW);
    notes.lock().unwrap().push((at, text.into()));
}

impl Observe for Sources {
    async fn next(&mut self, wake_at: Option<Timestamp>) -> Observed {
        if std::mem::take(&mut self.is_out_of_date) {
            note(&self.notes, &self.clock, "read");
        } else {
            let clock = self.clock.clone();
            let timer = async move { clock.sleep_until(wake_at.unwrap()).await };
            tokio::select! {
                biased;
                Some(news) = self.news.recv() => self.known = news,
                () = timer => {}
            }
        }
        self.known.at = self.clock.now();
        if let Some(snapshot) = &mut self.known.snapshot {
            let at = Some(self.clock.now());
            snapshot.completeness = Completeness {
                gcs_at: at,
                // Pods that were never listed stay unknown.
                pods_at: snapshot.completeness.pods_at.and(at),
                raycluster_at: at,
            };
        }
        let told = self.known.clone();
        self.known.is_gcs_replaced = false;
        told
    }

    fn doubt(&mut self) {
        note(&self.notes, &self.clock, "doubt");
    }

    fn adopt(&mut self, raycluster: Option<&serde_json::Value>) {
        match raycluster {
            None => self.is_out_of_date = true,
            Some(object) => {
                note(&self.notes, &self.clock, format!("adopt {object}"));
                let replicas = object["replicas"].as_u64().unwrap();
                let snapshot = self.known.snapshot.as_mut().unwrap();
                snapshot.groups[0].replicas = u32::try_from(replicas).unwrap();
            }
        }
    }
}

impl Act for Hands {
    async fn act(&mut self, Order { decision, .. }: &Order<'_>, _now: Timestamp) -> Applied {
        let to = decision.groups[0].replicas_to;
        note(&self.notes, &self.clock, format!("act {to}"));
        let takes_ms = *self.takes_ms.lock().unwrap();
        self.clock
            .sleep_until(self.clock.now().plus_ms(takes_ms))
            .await;
        note(&self.notes, &self.clock, "acted");
        let patch = self.answers.lock().unwrap().pop_front();
        Applied {
            drained: vec![PodName::from("drained")],
            refused: vec![Refusal {
                pod: PodName::from("refusing"),
                code: "refused",
                message: String::new(),
            }],
            patch: patch.unwrap_or_else(|| done(decision.groups[0].replicas_from, to)),
            ..Applied::default()
        }
    }

    fn tell(&mut self, notices: &[Departure]) {
        for notice in notices {
            let text = format!("tell {} {}", notice.pod, notice.kind.code());
            note(&self.notes, &self.clock, text);
        }
    }
}

impl Report for Ears {
    fn pass(&mut self, pass: &Pass<'_>) -> Option<Timestamp> {
        let hold = pass.decided.map(|decided| decided.write_hold);
        if let Some(decided) = pass.decided {
            self.remembered.lock().unwrap().clone_from(decided.history);
        }
        let text = match hold {
            None => "blind pass".to_owned(),
            Some(None) => "pass".to_owned(),
            Some(Some(WriteHold::BackingOff(_))) => "pass backing_off".to_owned(),
            Some(Some(hold)) => format!("pass {}", hold.code()),
        };
        note(&self.notes, &self.clock, text);
        self.report_at.lock().unwrap().take()
    }
}

pub fn done(replicas_from: u32, replicas_to: u32) -> PatchOutcome {
    let change = GroupChange {
        name: WorkerGroupName::from("cpu"),
        replicas_from,
        replicas_to,
        named: Vec::new(),
        forgotten: Vec::new(),
    };
    PatchOutcome::Done {
        raycluster: serde_json::json!({"replicas": replicas_to}),
        changes: vec![change],
    }
}

pub fn failed(source: CallError) -> PatchOutcome {
    PatchOutcome::Failed(ActError {
        namespace: "n".to_owned(),
        name: "c".to_owned(),
        source,
    })
}

pub fn refused(status: u16) -> PatchOutcome {
    failed(CallError::refused(status, "words"))
}

/// A cluster of one group in which so many tasks wait, one worker each.
pub fn waiting(tasks: u64) -> Cluster {
    Cluster::default()
        .group(group("cpu", "CPU=1"))
        .demand("CPU=1", tasks)
}

pub fn seen(cluster: Cluster) -> Observed {
    Observed {
        snapshot: Some(cluster.snapshot),
        ..Observed::default()
    }
}

impl World {
    pub fn start(answers: Vec<PatchOutcome>) -> Self {
        Self::start_with(answers, ControllerSettings::of(&Config::default()).unwrap())
    }

    pub fn start_with(answers: Vec<PatchOutcome>, settings: ControllerSettings) -> Self {
        let clock = Clock::starting_at(NOW);
        let notes = Notes::default();
        let (news, news_seen) = mpsc::unbounded_channel();
        let act_takes_ms = Arc::default();
        let (report_at, remembered) = (Arc::default(), Arc::default());
        let (settings, settings_seen) = watch::channel(settings);
        let sources = Sources {
            clock: clock.clone(),
            notes: Arc::clone(&notes),
            news: news_seen,
            known: Observed::default(),
            is_out_of_date: false,
        };
        let hands = Hands {
            clock: clock.clone(),
            notes: Arc::clone(&notes),
            answers: Arc::new(Mutex::new(VecDeque::from(answers))),
            takes_ms: Arc::clone(&act_takes_ms),
        };
        let ears = Ears {
            clock: clock.clone(),
            notes: Arc::clone(&notes),
            report_at: Arc::clone(&report_at),
            remembered: Arc::clone(&remembered),
        };
        let (stop, stopped) = oneshot::channel();
        let may_write = Arc::new(Notify::new());
        let mut controller = Controller::new((sources, hands, ears), clock.clone(), settings_seen)
            .retried_on(Arc::clone(&may_write));
        let running = tokio::spawn(async move {
            controller
                .run(async {
                    stopped.await.unwrap();
                })
                .await;
            controller.history().drain_refused_at.len()
        });
        Self {
            clock,
            notes,
            news,
            act_takes_ms,
            report_at,
            remembered,
            settings,
            may_write,
            stop: Some(stop),
            running,
        }
    }

    pub fn tell(&self, observed: Observed) {
        self.news.send(observed).unwrap();
    }

    /// Lets virtual time pass until so many milliseconds after the start.
    pub async fn until(&self, ms: u64) {
        self.clock.sleep_until(NOW.plus_ms(ms)).await;
        // What is due at this very moment happens too.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    pub fn notes(&self) -> Vec<(u64, String)> {
        self.notes.lock().unwrap().clone()
    }

    /// Returns when something with this beginning was noted.
    pub fn times_of(&self, beginning: &str) -> Vec<u64> {
        let notes = self.notes();
        let those = notes.iter().filter(|(_, text)| text.starts_with(beginning));
        those.map(|(at, _)| *at).collect()
    }

    pub fn change_settings(&self, change: impl FnOnce(&mut ControllerSettings)) {
        self.settings.send_modify(change);
    }

    pub fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }
}
