//! Plays a load once: through a chain that nobody disturbs, or through one that the timeline
//! strikes.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::checker::Observed;
use crate::crew::{Crew, Journal};
use crate::inject::{Struck, strike};
use crate::observe;
use crate::recovery::{Tracks, Watch};
use crate::softphone::{Reconnection, Softphones};
use crate::stand::{Record, Scene, Stand, pool};
use crate::timeline::{Fault, Timeline};

/// How long the chain may take to finish once all is written and every fault is over.
const FINISH_WITHIN: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A softphone that lost its gateway so soon after it was killed lost it by that.
const LOST_WITHIN: Duration = Duration::from_secs(8);

/// One fault and how long it took to recover from it.
#[derive(Clone, Debug)]
pub struct Recovered {
    pub fault: Fault,
    /// None when there was nothing to do in the time.
    pub after: Option<Duration>,
    /// What was slowest.
    pub slowest: String,
    /// Whether nothing else was there that could delay it: only then is the time its own.
    pub alone: bool,
}

/// A run that was played.
pub struct Played {
    pub observed: Observed,
    pub recovered: Vec<Recovered>,
    pub journal: Journal,
    /// Of each process.
    pub logs: Vec<(String, String)>,
}

/// Writes everything at once, through one process that nobody disturbs.
pub async fn undisturbed(stand: &Stand, keys: &str, records: &[Record]) -> Played {
    let scene = stand.scene(keys).await;
    let crew = Crew::of_one(stand, &scene).await;
    let at_once: Vec<Record> = records
        .iter()
        .map(|record| Record {
            at: Duration::ZERO,
            ..record.clone()
        })
        .collect();
    play(stand, scene, crew, &at_once, &Timeline::default()).await
}

/// Writes in time, through two processes a stage, while faults strike.
pub async fn disturbed(
    stand: &Stand,
    keys: &str,
    records: &[Record],
    timeline: &Timeline,
) -> Played {
    let scene = stand.scene(keys).await;
    let crew = Crew::of_two(stand, &scene).await;
    play(stand, scene, crew, records, timeline).await
}

async fn play(
    stand: &Stand,
    scene: Scene,
    crew: Crew,
    records: &[Record],
    timeline: &Timeline,
) -> Played {
    let mut calls: Vec<String> = records.iter().map(|record| record.key.clone()).collect();
    calls.sort();
    calls.dedup();
    let softphones = Softphones::open(&calls, &crew.gateways);
    let watch = Watch::begin(&scene).await;
    let began = Instant::now();
    let journal = crew.journal.clone();
    journal.restart(began);
    let strikes = async {
        let strikes = timeline.0.iter().map(|planned| {
            let (stand, scene, crew, journal) = (stand, &scene, &crew, &journal);
            async move {
                sleep_until(began + planned.at).await;
                strike(stand, scene, crew, journal, planned.fault).await
            }
        });
        futures::future::join_all(strikes).await
    };
    let ((), struck) = tokio::join!(write(&scene, records, began), strikes);
    journal.note("all is written and every fault is over");
    finish(&scene, &softphones, calls.len(), &journal).await;
    let tracks = watch.end();
    let logs = crew.stop().await;
    let (screens, reconnections) = softphones.close();
    let recovered = recoveries(&struck, &tracks, &reconnections);
    let observed = observed(&scene, screens.into_iter().collect()).await;
    scene.clear().await;
    Played {
        observed,
        recovered,
        journal,
        logs,
    }
}

/// How long each fault's stages took, or the softphones that it cut off.
fn recoveries(
    struck: &[Struck],
    tracks: &Tracks,
    reconnections: &[Reconnection],
) -> Vec<Recovered> {
    let mut recovered = Vec::new();
    for (index, one) in struck.iter().enumerate() {
        for since in one.since.iter().copied() {
            let found = if one.stages.is_empty() {
                let lost = reconnections.iter();
                let lost = lost.filter(|one| (since..since + LOST_WITHIN).contains(&one.lost));
                let slowest = lost.map(|one| one.live - since).max();
                slowest.map(|after| (after, "a softphone".to_owned()))
            } else {
                tracks.recovery(&one.stages, since)
            };
            let (after, slowest) = found.unzip();
            let until = since + after.unwrap_or_default();
            let mut others = struck.iter().enumerate();
            let hampered =
                others.any(|(other, fault)| other != index && fault.hampers(one, since, until));
            recovered.push(Recovered {
                fault: one.fault,
                after,
                slowest: slowest.unwrap_or_default(),
                alone: !hampered,
            });
        }
    }
    recovered
}

async fn observed(
    scene: &Scene,
    screens: BTreeMap<String, Vec<crate::checker::Shown>>,
) -> Observed {
    let topics = observe::topics(scene).await;
    let letters = observe::letters(scene).await;
    let (rows, ledger) = observe::rows(scene).await;
    Observed {
        topics,
        letters,
        rows,
        ledger,
        screens,
    }
}

/// Writes each record when it is due; waits out brokers that are away.
async fn write(scene: &Scene, records: &[Record], began: Instant) {
    let config = scene.kafka.producer(&[("message.timeout.ms", "0")]);
    let producer: FutureProducer = config.create().unwrap();
    let topic = scene.kafka.topic(&schemas::topics::CALLS_TRANSCRIPT);
    let mut deliveries = JoinSet::new();
    for record in records {
        sleep_until(began + record.at).await;
        let mut sending = FutureRecord::<String, Vec<u8>>::to(&topic).key(&record.key);
        sending.payload = record.payload.as_ref();
        let sent = producer.send_result(sending);
        let delivery = sent.unwrap_or_else(|(error, _)| panic!("{error}"));
        deliveries.spawn(delivery);
    }
    while let Some(delivered) = deliveries.join_next().await {
        delivered.unwrap().unwrap().unwrap();
    }
}

/// Waits until all calls are complete and every tip was shown and told of; when that takes too
/// long, the checker will say what is missing.
async fn finish(scene: &Scene, softphones: &Softphones, calls: usize, journal: &Journal) {
    let pool = pool(&scene.database).await;
    let deadline = Instant::now() + FINISH_WITHIN;
    let mut last = None;
    while Instant::now() < deadline {
        let (shown, told) = softphones.counts();
        let progress = observe::progress(&pool).await;
        if let Some((complete, tips, feedback)) = progress
            && complete == calls as i64
            && (tips, tips) == (shown as i64, feedback)
            && shown <= told
        {
            journal.note("all has arrived");
            pool.close().await;
            return;
        }
        last = Some((progress, shown, told));
        tokio::time::sleep(LOOK_EVERY).await;
    }
    journal.note(&format!("not all has arrived: {last:?} of {calls} calls"));
    pool.close().await;
}
