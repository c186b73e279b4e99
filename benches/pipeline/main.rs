//! What `make bench` measures of the pipeline: real Kafka, real PostgreSQL, real models, every
//! stage and the load on this machine. Prints the tables of docs/figures.md.
//!
//! `cargo bench --bench pipeline -- text` or `-- audio` measures one of the two.

mod chain;
mod screens;

use std::collections::HashMap;
use std::time::Duration;

use producers::call::{Call, Pace, Story};
use producers::{audio, wav};
use schemas::{EndReason, EventId, Language, Speaker, Utterance, count_words};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use chain::Chain;
use screens::{Screens, Seen};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Text path: calls at once, each an utterance every two seconds.
const TEXT_CALLS: usize = 100;
const TEXT_EVERY: Duration = Duration::from_secs(2);
const TEXT_FOR: Duration = Duration::from_secs(70);
/// Told apart from the rest: a hundred calls begin within two seconds on a broker just started.
const TEXT_BEGINNING: Duration = Duration::from_secs(10);

/// Audio path: calls at once, each the English sample call.
const AUDIO_CALLS: [usize; 6] = [1, 2, 4, 8, 12, 20];

/// How long the last tips may take.
const LATE: Duration = Duration::from_secs(15);

fn main() -> Result<()> {
    // `cargo bench` passes --bench itself.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let asked = |name: &str| wanted.is_empty() || wanted.iter().any(|want| want == name);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        if asked("text") {
            text().await?;
        }
        if asked("audio") {
            audio_path().await?;
        }
        Ok(())
    })
}

/// A sentence of the project's own data.
struct Sentence {
    text: String,
    language: Language,
}

fn sentences() -> Result<Vec<Sentence>> {
    let mut sentences = Vec::new();
    for language in Language::ALL {
        let path = harness::checkout().join(format!("models/data/{language}.jsonl"));
        for line in std::fs::read_to_string(path)?.lines() {
            let line: serde_json::Value = serde_json::from_str(line)?;
            let text = line["text"].as_str().unwrap_or_default().to_owned();
            sentences.push(Sentence {
                text,
                language: *language,
            });
        }
    }
    Ok(sentences)
}

fn call(rep: String, source: &'static str) -> Call {
    Call {
        id: format!("bench-{}", uuid::Uuid::new_v4()),
        tenant: "bench".to_owned(),
        rep,
        customer: None,
        language: "auto".to_owned(),
        channels: vec![Speaker::Rep, Speaker::Customer],
        source,
    }
}

/// Transcript record in, tip out at the gateway.
async fn text() -> Result<()> {
    let chain = Chain::start().await?;
    let sentences = std::sync::Arc::new(sentences()?);
    let mut screens = Screens::default();
    let mut calls = JoinSet::new();
    let from = Instant::now() + Duration::from_secs(1);
    for number in 0..TEXT_CALLS {
        let rep = format!("rep-{number}");
        screens.watch(&chain, &rep).await?;
        let (chain, sentences) = (chain.client(), sentences.clone());
        calls.spawn(async move { chain.talk(number, rep, &sentences, from).await });
    }
    let mut sent: HashMap<EventId, Instant> = HashMap::new();
    while let Some(call) = calls.join_next().await {
        sent.extend(call??);
    }
    let seen = screens.close(LATE).await;
    println!("\n## Text path: transcript record in, tip at the gateway\n");
    println!("| {TEXT_CALLS} calls | utterances | tips | p50 | p95 | p99 | max |");
    println!("|---|---|---|---|---|---|---|");
    let begun = from + TEXT_BEGINNING;
    let windows: [(&str, &dyn Fn(Instant) -> bool); 2] = [
        ("beginning", &|at| at < begun),
        ("going on", &|at| at >= begun),
    ];
    for (name, within) in windows {
        let tips = latencies(&seen, |tip| {
            sent.get(&tip.utterance_id)
                .copied()
                .filter(|&at| within(at))
        });
        let count = sent.values().filter(|&&at| within(at)).count();
        println!(
            "| {name} | {count} | {} | {} |",
            tips.len(),
            quantiles(&tips, "ms")
        );
    }
    chain.stop().await
}

impl chain::Client {
    /// One call of the text path; when each utterance was handed to the producer.
    async fn talk(
        &self,
        number: usize,
        rep: String,
        sentences: &[Sentence],
        from: Instant,
    ) -> Result<Vec<(EventId, Instant)>> {
        let began = pipeline::clock::now();
        let mut story =
            Story::begin::<Utterance>(call(rep, "transcript"), began, &self.producer, &self.sealer)
                .await?;
        let turns = (TEXT_FOR.as_millis() / TEXT_EVERY.as_millis()) as usize;
        let offset = TEXT_EVERY.mul_f64(number as f64 / TEXT_CALLS as f64);
        let mut sent = Vec::new();
        for turn in 0..turns {
            let at = from + offset + TEXT_EVERY * turn as u32;
            tokio::time::sleep_until(at).await;
            let end_ms = pipeline::clock::now() - began;
            let sentence = &sentences[(number * 7919 + turn * 104_729) % sentences.len()];
            let utterance = Utterance {
                channel: 1,
                speaker: Speaker::Customer,
                start_ms: (end_ms - 1500).max(0),
                end_ms,
                language: sentence.language,
                words: count_words(&sentence.text, sentence.language),
                text: story
                    .key()
                    .seal(pipeline::Field::TEXT, sentence.text.as_bytes())?,
            };
            let handed_over = Instant::now();
            sent.push((story.add(end_ms, utterance).await?, handed_over));
        }
        story
            .end::<Utterance>(pipeline::clock::now() - began, EndReason::Hangup, None)
            .await?;
        Ok(sent)
    }
}

/// The customer's last word to the tip at the gateway, with more and more live calls.
async fn audio_path() -> Result<()> {
    let file = harness::checkout().join("producers/samples/en.wav");
    let recording = std::sync::Arc::new(wav::Recording::new(&audio::read(&file)?)?);
    println!("\n## Audio path: the customer's last word to the tip at the gateway\n");
    println!("| live calls | tips | p50 | p95 | p99 | max |\n|---|---|---|---|---|---|");
    for count in AUDIO_CALLS {
        let chain = Chain::start().await?;
        let mut screens = Screens::default();
        let mut calls = JoinSet::new();
        for number in 0..count {
            let rep = format!("rep-{number}");
            screens.watch(&chain, &rep).await?;
            let (client, recording) = (chain.client(), recording.clone());
            // Calls do not begin at the same moment.
            let offset = Duration::from_millis(1_370 * number as u64);
            calls.spawn(async move { client.play(rep, &recording, offset).await });
        }
        let mut paces: HashMap<String, (i64, Pace)> = HashMap::new();
        while let Some(call) = calls.join_next().await {
            let (rep, began, pace) = call??;
            paces.insert(rep, (began, pace));
        }
        let seen = screens.close(LATE).await;
        let tips = latencies(&seen, |tip| {
            let (began, pace) = paces.get(&tip.rep)?;
            pace.due(tip.spoken_at - began)
        });
        println!("| {count} | {} | {} |", tips.len(), quantiles(&tips, "ms"));
        chain.stop().await?;
    }
    Ok(())
}

impl chain::Client {
    async fn play(
        &self,
        rep: String,
        recording: &wav::Recording,
        offset: Duration,
    ) -> Result<(String, i64, Pace)> {
        tokio::time::sleep(offset).await;
        let began = pipeline::clock::now();
        let pace = Pace::start(1.0);
        let call = call(rep.clone(), "wav");
        let story = wav::begin(call, began, &self.producer, &self.sealer).await?;
        wav::play(recording, story, pace, &CancellationToken::new()).await?;
        Ok((rep, began, pace))
    }
}

fn latencies(seen: &[Seen], from: impl Fn(&Seen) -> Option<Instant>) -> Vec<Duration> {
    let mut latencies: Vec<Duration> = seen
        .iter()
        .filter_map(|tip| Some(tip.at.duration_since(from(tip)?)))
        .collect();
    latencies.sort();
    latencies
}

/// `p50 | p95 | p99 | max` by nearest rank.
fn quantiles(sorted: &[Duration], unit: &str) -> String {
    let rank = |share: usize| {
        let index = (sorted.len() * share).div_ceil(100).max(1) - 1;
        sorted
            .get(index)
            .map_or("-".to_owned(), |d| format!("{} {unit}", d.as_millis()))
    };
    [50, 95, 99, 100].map(rank).join(" | ")
}
