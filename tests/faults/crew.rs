//! The processes of a run, and the supervisor that starts again what has ended, as production has
//! one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use harness::{Process, Signal, eventually, free_port};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::stand::{Scene, Stand};
use crate::timeline::{INSTANCES, STAGES, Slot};

const COACH: &str = env!("CARGO_BIN_EXE_coach");
/// How long a start, or an end in good order, may take.
const WITHIN: Duration = Duration::from_secs(90);
/// How often the supervisor looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The group takes a process for dead, and the brokers abort what it left open, after so long.
const DEAD_AFTER_MS: &str = "6000";

/// What happened in a run, as it happened.
#[derive(Clone)]
pub struct Journal {
    began: Arc<Mutex<Instant>>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Journal {
    pub fn begin() -> Self {
        Self {
            began: Arc::new(Mutex::new(Instant::now())),
            lines: Arc::default(),
        }
    }

    /// Tells times from `began` on.
    pub fn restart(&self, began: Instant) {
        *lock(&self.began) = began;
    }

    pub fn note(&self, what: &str) {
        let line = format!(
            "{:6.1} s  {what}",
            lock(&self.began).elapsed().as_secs_f64()
        );
        lock(&self.lines).push(line);
    }

    pub fn lines(&self) -> Vec<String> {
        lock(&self.lines).clone()
    }
}

/// One process that should run.
pub struct Member {
    name: String,
    stages: Vec<String>,
    environment: Vec<(String, String)>,
    telemetry: u16,
    process: Option<Process>,
    /// Whether the supervisor is to see that it runs.
    wanted: bool,
    /// Ended on purpose, so that it is no news.
    expected_end: bool,
    starts: usize,
    logs: Vec<String>,
}

/// A process's place in the crew, and the process that is there now.
type Seat = (Option<Slot>, Arc<Mutex<Member>>);

/// All processes of a run.
#[derive(Clone)]
pub struct Crew {
    members: Arc<Vec<Seat>>,
    extras: Arc<Mutex<Vec<Arc<Mutex<Member>>>>>,
    /// What happened to it.
    pub journal: Journal,
    supervisor: Arc<JoinHandle<()>>,
    /// Where each gateway listens.
    pub gateways: Vec<String>,
}

impl Crew {
    /// Everything in one process, which nobody disturbs.
    pub async fn of_one(stand: &Stand, scene: &Scene) -> Self {
        let mut environment = stand.environment(scene, None);
        let gateway = format!("127.0.0.1:{}", free_port());
        environment.push(pair("SALES_COACH__GATEWAY__LISTEN", &gateway));
        environment.push(playbook(stand, 1));
        let stages = STAGES.map(str::to_owned).to_vec();
        let member = Member::new("undisturbed", stages, environment);
        Self::start(vec![(None, member)], vec![gateway]).await
    }

    /// Two processes a stage. The first of each has a name that outlives a restart, the second has
    /// none.
    pub async fn of_two(stand: &Stand, scene: &Scene) -> Self {
        let (mut members, mut gateways) = (Vec::new(), Vec::new());
        for stage in STAGES {
            for instance in 0..INSTANCES {
                let slot = Slot { stage, instance };
                let mut environment = stand.environment(scene, Some(slot));
                if instance == 0 {
                    environment.push(pair("SALES_COACH__RUNNER__INSTANCE", &name(slot)));
                }
                if stage == "gateway" {
                    let gateway = format!("127.0.0.1:{}", free_port());
                    environment.push(pair("SALES_COACH__GATEWAY__LISTEN", &gateway));
                    gateways.push(gateway);
                }
                environment.push(playbook(stand, 1));
                let member = Member::new(&slot.to_string(), vec![stage.to_owned()], environment);
                members.push((Some(slot), member));
            }
        }
        Self::start(members, gateways).await
    }

    async fn start(members: Vec<(Option<Slot>, Member)>, gateways: Vec<String>) -> Self {
        let journal = Journal::begin();
        let members = members.into_iter();
        let members: Vec<_> = members
            .map(|(slot, member)| (slot, Arc::new(Mutex::new(member))))
            .collect();
        let members = Arc::new(members);
        let extras: Arc<Mutex<Vec<Arc<Mutex<Member>>>>> = Arc::default();
        let (watched, more, told) = (Arc::clone(&members), Arc::clone(&extras), journal.clone());
        let supervisor = tokio::spawn(async move {
            loop {
                let extras = lock(&more).clone();
                for member in watched.iter().map(|(_, member)| member).chain(&extras) {
                    lock(member).see_to(&told);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        let crew = Self {
            members,
            extras,
            journal,
            supervisor: Arc::new(supervisor),
            gateways,
        };
        for (_, member) in crew.members.iter() {
            until_ready(member).await;
        }
        crew
    }

    fn member(&self, slot: Slot) -> &Arc<Mutex<Member>> {
        let mut members = self.members.iter();
        let found = members.find(|(of, _)| *of == Some(slot));
        &found.unwrap().1
    }

    pub fn kill(&self, slot: Slot) {
        let mut member = lock(self.member(slot));
        member.expected_end = true;
        if let Some(process) = &mut member.process {
            process.kill();
        }
    }

    pub fn terminate(&self, slot: Slot) {
        let mut member = lock(self.member(slot));
        member.expected_end = true;
        member.signal(Signal::Term);
    }

    pub fn freeze(&self, slot: Slot) {
        lock(self.member(slot)).signal(Signal::Stop);
    }

    pub fn thaw(&self, slot: Slot) {
        lock(self.member(slot)).signal(Signal::Continue);
    }

    /// Ends a process in good order and lets it be.
    pub fn remove(&self, slot: Slot) {
        let mut member = lock(self.member(slot));
        (member.wanted, member.expected_end) = (false, true);
        member.signal(Signal::Term);
    }

    /// Starts it again.
    pub fn restore(&self, slot: Slot) {
        lock(self.member(slot)).wanted = true;
    }

    /// Adds one more instance of a stage, on the straight way, for a while.
    pub async fn add(&self, stand: &Stand, scene: &Scene, stage: &'static str, time: Duration) {
        let mut environment = stand.environment(scene, None);
        environment.push(playbook(stand, 1));
        let member = Member::new(&format!("{stage} 3"), vec![stage.to_owned()], environment);
        let member = Arc::new(Mutex::new(member));
        lock(&self.extras).push(Arc::clone(&member));
        tokio::time::sleep(time).await;
        let mut member = lock(&member);
        (member.wanted, member.expected_end) = (false, true);
        member.signal(Signal::Term);
    }

    /// Rolls out the playbook's second version: one instance after the other.
    pub async fn new_playbook(&self, stand: &Stand) {
        for instance in 0..INSTANCES {
            let slot = Slot {
                stage: "coaching",
                instance,
            };
            let member = self.member(slot);
            let before = {
                let mut member = lock(member);
                member.environment.push(playbook(stand, 2));
                member.starts
            };
            self.terminate(slot);
            eventually(WITHIN, "coaching is started again", async || {
                (lock(member).starts > before).then_some(())
            })
            .await;
            until_ready(member).await;
        }
    }

    /// Ends all processes in good order, and gives their logs.
    pub async fn stop(self) -> Vec<(String, String)> {
        let extras = lock(&self.extras).clone();
        let members: Vec<_> = self
            .members
            .iter()
            .map(|(_, member)| member.clone())
            .collect();
        let all: Vec<_> = members.into_iter().chain(extras).collect();
        for member in &all {
            let mut member = lock(member);
            (member.wanted, member.expected_end) = (false, true);
            member.signal(Signal::Term);
        }
        for member in &all {
            let what = format!("{} ends in good order", lock(member).name);
            eventually(WITHIN, &what, async || {
                let mut member = lock(member);
                member.see_to(&self.journal);
                member.process.is_none().then_some(())
            })
            .await;
        }
        self.supervisor.abort();
        all.iter()
            .map(|member| {
                let member = lock(member);
                (
                    member.name.clone(),
                    member.logs.join("\n=== started again ===\n"),
                )
            })
            .collect()
    }
}

impl Member {
    fn new(name: &str, stages: Vec<String>, mut environment: Vec<(String, String)>) -> Self {
        let telemetry = free_port();
        let listen = format!("127.0.0.1:{telemetry}");
        environment.push(pair("SALES_COACH__TELEMETRY__LISTEN", &listen));
        environment.push(pair(
            "SALES_COACH__RUNNER__SESSION_TIMEOUT_MS",
            DEAD_AFTER_MS,
        ));
        environment.push(pair(
            "SALES_COACH__RUNNER__TRANSACTION_TIMEOUT_MS",
            DEAD_AFTER_MS,
        ));
        Self {
            name: name.to_owned(),
            stages,
            environment,
            telemetry,
            process: None,
            wanted: true,
            expected_end: false,
            starts: 0,
            logs: Vec::new(),
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// Notes that it has ended, and starts it when it should run and does not.
    fn see_to(&mut self, journal: &Journal) {
        if let Some(process) = &mut self.process
            && let Some(status) = process.exited()
        {
            let log = process.stderr();
            if !self.expected_end {
                let last = log.lines().last().unwrap_or_default();
                journal.note(&format!("{} ended by itself, {status}: {last}", self.name));
            }
            self.logs.push(log);
            (self.process, self.expected_end) = (None, false);
        }
        if self.process.is_none() && self.wanted {
            let stages = self.stages.iter().map(String::as_str);
            let arguments: Vec<&str> = ["run"].into_iter().chain(stages).collect();
            let pairs = self.environment.iter();
            let pairs: Vec<_> = pairs.map(|(k, v)| (k.as_str(), v.as_str())).collect();
            self.process = Some(Process::spawn(COACH, &arguments, &pairs));
            self.starts += 1;
        }
    }
}

async fn until_ready(member: &Arc<Mutex<Member>>) {
    let (name, telemetry) = {
        let member = lock(member);
        (member.name.clone(), member.telemetry)
    };
    let ready = format!("http://127.0.0.1:{telemetry}/ready");
    eventually(WITHIN, &format!("{name} is ready"), async || {
        let answer = reqwest::get(&ready).await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
}

/// The name of a process that keeps it over restarts.
pub fn name(slot: Slot) -> String {
    format!("{}-{}", slot.stage, slot.instance + 1)
}

fn playbook(stand: &Stand, version: u32) -> (String, String) {
    let path = stand.playbook(version).display().to_string();
    pair("SALES_COACH__COACHING__PLAYBOOK", &path)
}

fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
