//! The checker: processes of the stage are killed again and again while the CRMs misbehave, and at
//! the end each call has exactly one note in its tenant's CRM.
//!
//! `make test` runs [`SEEDS`]. `make notes`, or `CRM_SEEDS=20 CRM_CALLS=150 cargo test --release
//! --test crm_notes killed`, runs so many seeds with so many calls each, and prints a line for each.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crm_servers::hubspot::HubSpot;
use crm_servers::salesforce::Salesforce;
use crm_servers::{Change, Fault, Request, Write};
use harness::{Process, Signal, eventually};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use schemas::Crm;

use crate::scene::{Scene, key, org, portal, portal_with};

/// The seeds of `make test`, and how many calls each has there.
const SEEDS: std::ops::Range<u64> = 1..3;
const CALLS: usize = 60;
/// How many calls at most a tenant's notes are behind: so notes go in many small batches.
const BEHIND: usize = 6;
/// How long one seed may take.
const DEADLINE: Duration = Duration::from_secs(300);
/// Which share of requests meets a fault.
const SHARE: f64 = 0.25;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
    )
}

/// The CRMs of a run, one tenant each: HubSpot in its two versions and ways in, and Salesforce.
struct Crms {
    private: HubSpot,
    public: HubSpot,
    org: Salesforce,
}

/// Names under which the two instances take their partitions back at once.
const INSTANCES: [&str; 2] = ["one", "two"];
const TENANTS: [&str; 3] = ["acme", "bolt", "cato"];

impl Crms {
    async fn start(scene: &Scene) -> Self {
        let crms = Self {
            private: portal().await,
            public: portal_with(|setup| setup.token_lifetime = Duration::from_secs(20)).await,
            org: org().await,
        };
        scene.on_hubspot(TENANTS[0], &crms.private, "", "").await;
        let setup = crms.public.setup();
        let yaml = format!(
            "hubspot:\n  url: {}\n  version: 2026-03\n  client_id: {}\n",
            crms.public.url(),
            setup.client_id
        );
        let secret = format!(
            r#"{{"client_secret": "{}", "refresh_token": "{}"}}"#,
            setup.client_secret, setup.refresh_token
        );
        scene
            .tenant(TENANTS[1], &yaml, &[(Crm::Hubspot, secret.as_str())])
            .await;
        scene.on_salesforce(TENANTS[2], &crms.org).await;
        crms
    }

    fn misbehave(&self, seed: u64) {
        self.private.misbehave(seed * 3, SHARE, &Fault::all());
        self.public.misbehave(seed * 3 + 1, SHARE, &Fault::all());
        self.org.misbehave(seed * 3 + 2, SHARE, &Fault::all());
    }

    fn behave(&self) {
        self.private.behave();
        self.public.behave();
        self.org.behave();
    }

    /// How many notes each key has, by tenant.
    fn notes(&self) -> [BTreeMap<String, usize>; 3] {
        [
            self.private.count_by("calls", "sales_coach_key"),
            self.public.count_by("calls", "sales_coach_key"),
            self.org.count_by("Call_Coaching__c", "Call_Key__c"),
        ]
    }

    /// How many records there are, with a key or without.
    fn records(&self) -> [usize; 3] {
        [
            self.private.records("calls").len(),
            self.public.records("calls").len(),
            self.org.records("Call_Coaching__c").len(),
        ]
    }

    fn writes(&self) -> [Vec<Write>; 3] {
        [
            self.private.writes(),
            self.public.writes(),
            self.org.writes(),
        ]
    }

    fn requests(&self) -> Vec<Request> {
        let mut all = self.private.requests();
        all.extend(self.public.requests());
        all.extend(self.org.requests());
        all
    }
}

fn call(tenant: &str, number: usize) -> String {
    format!("{tenant}-{number}")
}

/// One note of each call.
fn wanted(tenant: &str, calls: usize) -> BTreeMap<String, usize> {
    (0..calls)
        .map(|number| (key(tenant, &call(tenant, number)), 1))
        .collect()
}

/// What is wrong with the notes of a run.
fn complaints(crms: &Crms, calls: usize) -> Vec<String> {
    let mut complaints = Vec::new();
    let (notes, records, writes) = (crms.notes(), crms.records(), crms.writes());
    for (at, tenant) in TENANTS.iter().enumerate() {
        let wanted = wanted(tenant, calls);
        let lost = wanted.keys().filter(|key| !notes[at].contains_key(*key));
        let lost = lost.count();
        let twice = notes[at].values().filter(|count| **count > 1).count();
        let strange = notes[at].keys().filter(|key| !wanted.contains_key(*key));
        let strange = strange.count();
        if lost + twice + strange > 0 || records[at] != calls {
            complaints.push(format!(
                "{tenant}: {lost} lost, {twice} twice, {strange} of no call, {} records of {calls}",
                records[at]
            ));
        }
        let changes = |change| writes[at].iter().filter(|w| w.change == change).count();
        let (created, deleted) = (changes(Change::Created), changes(Change::Deleted));
        if created != calls || deleted != 0 {
            complaints.push(format!("{tenant}: {created} created, {deleted} deleted"));
        }
    }
    complaints
}

/// What a run did.
struct Run {
    kills: usize,
    faults: BTreeMap<String, usize>,
    requests: usize,
    took: Duration,
}

/// Kills an instance each time the CRMs have got so many requests more, and starts another.
async fn kill(
    scene: &Scene,
    crms: &Crms,
    calls: usize,
    random: &mut StdRng,
) -> (usize, [Process; 2]) {
    let mut instances = INSTANCES.map(|name| scene.spawn(name));
    let mut kills = 0;
    let mut seen = 0;
    loop {
        let next = seen + random.random_range(2..9);
        let done = eventually(DEADLINE, "the stage goes on writing", async || {
            let notes = crms.notes();
            let done = notes.iter().all(|notes| notes.len() == calls);
            if done {
                return Some(true);
            }
            (crms.requests().len() >= next).then_some(false)
        })
        .await;
        if done {
            return (kills, instances);
        }
        let which = kills % 2;
        instances[which].kill();
        kills += 1;
        seen = crms.requests().len();
        instances[which] = scene.spawn(INSTANCES[which]);
    }
}

async fn run(seed: u64, calls: usize) -> Run {
    let begun = Instant::now();
    let mut random = StdRng::seed_from_u64(seed);
    let mut scene = Scene::new().await;
    scene.set("DAILY", "1s");
    let crms = Crms::start(&scene).await;
    crms.misbehave(seed);
    let calling = async {
        for number in 0..calls {
            eventually(DEADLINE, "earlier notes are written", async || {
                let notes = crms.notes();
                let near = notes.iter().all(|notes| notes.len() + BEHIND > number);
                near.then_some(())
            })
            .await;
            for tenant in TENANTS {
                scene.call(tenant, &call(tenant, number)).await;
                // Input that comes twice: the same events again.
                if number % 10 == 3 {
                    scene.call(tenant, &call(tenant, number)).await;
                }
                if number % 7 == 5 {
                    scene.feedback(tenant, &call(tenant, number)).await;
                }
            }
        }
    };
    let ((), (kills, instances)) = tokio::join!(calling, kill(&scene, &crms, calls, &mut random));
    crms.behave();
    // What is still parked or on its way comes to its end before the notes are counted.
    scene.settled(DEADLINE).await;
    for mut instance in instances {
        instance.signal(Signal::Term);
        let status = instance.wait(DEADLINE).await;
        assert!(status.success(), "{}", instance.stderr());
    }
    let complaints = complaints(&crms, calls);
    assert!(
        complaints.is_empty(),
        "seed {seed}: {}",
        complaints.join("; ")
    );
    let mut faults = BTreeMap::new();
    let requests = crms.requests();
    for fault in requests.iter().filter_map(|request| request.fault) {
        *faults.entry(format!("{fault:?}")).or_default() += 1;
    }
    Run {
        kills,
        faults,
        requests: requests.len(),
        took: begun.elapsed(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_that_are_killed_write_each_calls_note_once() {
    let calls = number("CRM_CALLS").map_or(CALLS, |calls| usize::try_from(calls).unwrap());
    let seeds = number("CRM_SEEDS").map_or(SEEDS, |seeds| 1..seeds + 1);
    let mut all: BTreeMap<String, usize> = BTreeMap::new();
    let mut notes = 0;
    for seed in seeds {
        let run = run(seed, calls).await;
        notes += calls * TENANTS.len();
        println!(
            "seed {seed}: {} notes, each once; {} kills, {} faults in {} requests, {:.0} s",
            calls * TENANTS.len(),
            run.kills,
            run.faults.values().sum::<usize>(),
            run.requests,
            run.took.as_secs_f64()
        );
        for (fault, count) in run.faults {
            *all.entry(fault).or_default() += count;
        }
    }
    println!("{notes} notes, each once; faults: {all:?}");
    assert!(all.len() >= 6, "too few kinds of faults: {all:?}");
}
