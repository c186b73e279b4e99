//! What must hold of real models on real and made-up sound. They need `make models`.

use std::path::Path;

use pipeline::seal::MasterKey;
use pipeline::seal::MemoryKeys;
use pipeline::{CallKey, Envelope, Origin, TraceContext};
use producers::audio::{self, Audio};
use schemas::{Encoding, EndReason, Event, EventId, Head, Speaker, Started};

use super::recording::{Line, Recorder};
use super::*;
use crate::onnx;

mod spelled;
mod unspoken;

fn sample(name: &str) -> Audio {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../producers/samples");
    audio::read(&folder.join(name)).unwrap()
}

/// Someone who never stops: the rep's utterances of the sample call without the pauses between.
fn monologue() -> Vec<f32> {
    let call = sample("en.wav");
    let mut cutter = Cutter::new(call.rate, CutterSettings::default());
    let mut vad = Vad::open(&onnx::cache_dir()).unwrap();
    let cuts = cutter.push(&mut vad, &call.channels[0]).unwrap();
    let margin = 8 * 224;
    cuts.iter()
        .flat_map(|cut| cut.samples[margin..cut.samples.len() - margin].to_vec())
        .collect()
}

fn cut(samples: &[f32], chunk: usize) -> Vec<Cut> {
    let mut vad = Vad::open(&onnx::cache_dir()).unwrap();
    let mut cutter = Cutter::new(8000, CutterSettings::default());
    let mut cuts = Vec::new();
    for chunk in samples.chunks(chunk) {
        cuts.extend(cutter.push(&mut vad, chunk).unwrap());
    }
    cuts.extend(cutter.finish());
    cuts
}

fn recorder() -> Recorder {
    Recorder::open(
        &onnx::cache_dir(),
        Settings {
            workers: 1,
            ..Settings::default()
        },
        Spelling::default(),
    )
    .unwrap()
}

async fn transcribe(
    recorder: &mut Recorder,
    recording: &Audio,
    language: Option<Language>,
) -> Vec<Line> {
    let mut lines = Vec::new();
    recorder
        .transcribe(recording, language, |line| lines.push(line))
        .await
        .unwrap();
    lines
}

#[test]
fn a_monologue_is_cut_within_15_seconds_and_nothing_of_it_is_lost() {
    let samples = monologue();
    assert!(samples.len() > 8000 * 35, "{} samples", samples.len());
    let cuts = cut(&samples, 8000);
    for cut in &cuts {
        assert!(
            cut.samples.len() <= 8000 * 15,
            "{} to {}",
            cut.start_ms,
            cut.end_ms
        );
    }
    let spoken: i64 = cuts.iter().map(|cut| cut.end_ms - cut.start_ms).sum();
    let whole = samples.len() as i64 / 8;
    assert!(spoken > whole * 9 / 10, "{spoken} of {whole} ms");
}

#[test]
fn utterances_are_the_same_however_the_audio_comes() {
    let call = sample("en.wav");
    let whole = cut(&call.channels[1], call.channels[1].len());
    assert!(whole.len() >= 8, "{}", whole.len());
    assert_eq!(cut(&call.channels[1], 800), whole);
    assert_eq!(cut(&call.channels[1], 777), whole);
}

#[tokio::test]
async fn the_sample_call_has_its_words_its_speakers_and_its_times() {
    let lines = transcribe(&mut recorder(), &sample("en.wav"), None).await;
    let line = lines
        .iter()
        .find(|line| line.text.to_lowercase().contains("too expensive"))
        .unwrap_or_else(|| panic!("no price objection in {lines:?}"));
    assert_eq!(line.speaker, Speaker::Customer);
    assert!((line.start_ms - 24_199).abs() < 300, "{line:?}");
    assert!((line.end_ms - 27_714).abs() < 300, "{line:?}");
    assert!(lines.iter().all(|line| line.language == Language::En));
    assert!(
        lines
            .iter()
            .any(|line| line.text.contains("Emma") && line.speaker == Speaker::Rep)
    );
}

// === the stage ===

const CALL: &str = "call-1";

/// The stage, with events of one call.
struct Desk {
    stage: Transcription,
    key: CallKey,
}

/// An utterance as it was written.
type Spoken = (i32, i64, i64, Language, String);

impl Desk {
    async fn open() -> Self {
        Self::with(BTreeMap::new()).await
    }

    async fn with(tenants: BTreeMap<String, TenantSettings>) -> Self {
        let master = MasterKey::from_base64(&MasterKey::generate()).unwrap();
        let sealer = Sealer::new(master, MemoryKeys::default());
        let key = sealer.create("tenant", CALL).await.unwrap();
        let settings = Settings {
            workers: 1,
            tenants,
            ..Settings::default()
        };
        let stage = Transcription::new(&onnx::cache_dir(), settings, sealer).unwrap();
        Self { stage, key }
    }

    fn story(&self, audio: &Audio, language: &str) -> Vec<Body<Chunk>> {
        let speakers = [Speaker::Rep, Speaker::Customer];
        let mut story = vec![Body::Started(Started {
            rep: "rep".to_owned(),
            customer: None,
            language: language.to_owned(),
            source: "wav".to_owned(),
            channels: speakers[..audio.channels.len()].to_vec(),
            started_at: 1_000_000,
        })];
        let step = audio.rate as usize / 10;
        let length = audio.channels[0].len();
        for (number, begin) in (0..length).step_by(step).enumerate() {
            let frames = begin..(begin + step).min(length);
            let samples = frames.flat_map(|i| audio.channels.iter().map(move |c| c[i]));
            let bytes: Vec<u8> = samples
                .flat_map(|s| ((s * 32767.0) as i16).to_le_bytes())
                .collect();
            story.push(Body::Item(self.chunk(
                number as i64 * 100,
                audio.rate,
                &bytes,
            )));
        }
        story.push(Body::Ended(Ended {
            reason: EndReason::Hangup,
            duration_ms: length as i64 * 1000 / i64::from(audio.rate),
            utterances: None,
            transcribed_ms: None,
            conversation: None,
            objections: None,
            next_step: None,
        }));
        story
    }

    fn chunk(&self, offset_ms: i64, rate: u32, bytes: &[u8]) -> Chunk {
        Chunk {
            offset_ms,
            duration_ms: 100,
            sample_rate: rate as i32,
            encoding: Encoding::PcmS16le,
            audio: self.key.seal(Field::AUDIO, bytes).unwrap(),
        }
    }

    async fn process(
        &self,
        call: &mut Memory,
        number: usize,
        body: &Body<Chunk>,
        rebuilding: bool,
    ) -> Result<Vec<Event<Utterance>>, StageError> {
        let head = Head {
            event_id: EventId::derive("test", CALL, number as u32),
            call_id: CALL.to_owned(),
            tenant: "tenant".to_owned(),
            time: 0,
        };
        let mut out = Outbox::new("transcription", head.clone());
        let origin = Origin {
            topic: "calls.audio".to_owned(),
            partition: 0,
            offset: number as i64,
        };
        let input = Envelope {
            event: Event {
                head,
                body: body.clone(),
            },
            origin,
            timestamp: 0,
            trace: TraceContext::default(),
            rebuilding,
        };
        self.stage.process(call, &input, &mut out).await?;
        Ok(out.into_parts().0)
    }

    /// Plays the events, the first of them as a rebuild, and gives what came of the others.
    async fn play(&self, story: &[Body<Chunk>], rebuilt: usize) -> Vec<Event<Utterance>> {
        let mut call = Memory::default();
        let mut events = Vec::new();
        for (number, body) in story.iter().enumerate() {
            let rebuilding = number < rebuilt;
            let written = self
                .process(&mut call, number, body, rebuilding)
                .await
                .unwrap();
            if !rebuilding {
                events.extend(written);
            }
        }
        events
    }

    fn spoken(&self, events: &[Event<Utterance>]) -> Vec<(EventId, Spoken)> {
        events
            .iter()
            .filter_map(|event| match &event.body {
                Body::Item(u) => {
                    let text = self.key.open(Field::TEXT, &u.text).unwrap().to_vec();
                    let text = String::from_utf8(text).unwrap();
                    Some((
                        event.head.event_id,
                        (u.channel, u.start_ms, u.end_ms, u.language, text),
                    ))
                }
                _ => None,
            })
            .collect()
    }
}

fn shortened(mut audio: Audio, seconds: usize) -> Audio {
    for channel in &mut audio.channels {
        channel.truncate(seconds * audio.rate as usize);
    }
    audio
}

#[tokio::test]
async fn a_call_begins_speaks_and_ends_on_the_transcript() {
    let desk = Desk::open().await;
    let events = desk
        .play(&desk.story(&shortened(sample("en.wav"), 20), "en"), 0)
        .await;
    assert!(matches!(events.first().unwrap().body, Body::Started(_)));
    let spoken = desk.spoken(&events);
    assert!(spoken.len() >= 3, "{}", spoken.len());
    assert!(spoken[0].1.4.contains("planning"), "{}", spoken[0].1.4);
    for event in &events {
        if let Body::Item(utterance) = &event.body {
            assert_eq!(event.head.time, 1_000_000 + utterance.end_ms);
            assert!(utterance.words > 0);
        }
    }
    let Body::Ended(ended) = &events.last().unwrap().body else {
        panic!("no end")
    };
    assert_eq!(ended.transcribed_ms, Some(20_000));
    assert_eq!(ended.utterances, Some(spoken.len() as i32));
}

#[tokio::test]
async fn a_stage_that_was_restarted_writes_what_an_undisturbed_one_writes() {
    let desk = Desk::open().await;
    let story = desk.story(&shortened(sample("en.wav"), 45), "auto");
    let undisturbed = desk.spoken(&desk.play(&story, 0).await);
    assert!(undisturbed.iter().any(|(_, u)| u.4.contains("expensive")));
    for rebuilt in [5, 90, 260, 271] {
        let events = desk.play(&story, rebuilt).await;
        let restarted = desk.spoken(&events);
        assert!(!restarted.is_empty());
        let rest = undisturbed.len() - restarted.len();
        assert_eq!(
            rest == 0,
            rebuilt == 5,
            "nothing was said in the first half second"
        );
        assert_eq!(restarted, undisturbed[rest..], "restarted at {rebuilt}");
        let Body::Ended(ended) = &events.last().unwrap().body else {
            panic!("no end")
        };
        // How many were written before is not to be had: a wrong number would be worse than none.
        let counted = (rest == 0).then_some(undisturbed.len() as i32);
        assert_eq!(ended.utterances, counted, "restarted at {rebuilt}");
    }
}

#[tokio::test]
async fn a_call_that_was_forgotten_ends_with_no_number_of_utterances() {
    let desk = Desk::open().await;
    let story = desk.story(&shortened(sample("en.wav"), 1), "en");
    let events = desk.play(&story[story.len() - 1..], 0).await;
    let [
        Event {
            body: Body::Ended(ended),
            ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(ended.utterances, None);
}

#[tokio::test]
async fn audio_that_comes_twice_is_heard_once_and_a_gap_keeps_the_time() {
    let desk = Desk::open().await;
    let story = desk.story(&shortened(sample("en.wav"), 20), "en");
    let whole = desk.spoken(&desk.play(&story, 0).await);

    let mut twice = story.clone();
    twice.insert(61, story[60].clone());
    let heard: Vec<_> = desk
        .spoken(&desk.play(&twice, 0).await)
        .into_iter()
        .map(|s| s.1)
        .collect();
    let once: Vec<_> = whole.iter().map(|s| s.1.clone()).collect();
    assert_eq!(heard, once);

    let mut gap = story;
    gap.drain(4..50);
    let events = desk.play(&gap, 0).await;
    let later = desk.spoken(&events);
    assert_eq!(later.last().unwrap().1, once[once.len() - 1]);
    let Body::Ended(ended) = &events.last().unwrap().body else {
        panic!("no end")
    };
    assert_eq!(ended.transcribed_ms, Some(20_000 - 4_600));
}

#[tokio::test]
async fn audio_that_cannot_be_understood_is_poison_and_changes_nothing() {
    let desk = Desk::open().await;
    let story = desk.story(&shortened(sample("en.wav"), 1), "en");
    let mut call = Memory::default();
    let reason = async |call: &mut Memory, chunk: Chunk| {
        let error = desk
            .process(call, 9, &Body::Item(chunk), false)
            .await
            .unwrap_err();
        match error {
            StageError::Poison(poison) => poison.reason.into_owned(),
            other => panic!("{other}"),
        }
    };
    assert_eq!(
        reason(&mut call, desk.chunk(0, 8000, &[0; 1600])).await,
        "not_started"
    );
    for (number, body) in story[..5].iter().enumerate() {
        desk.process(&mut call, number, body, false).await.unwrap();
    }
    assert_eq!(
        reason(&mut call, desk.chunk(400, 8000, &[0; 1601])).await,
        "bad_audio"
    );
    assert_eq!(
        reason(&mut call, desk.chunk(-1, 8000, &[0; 1600])).await,
        "bad_audio"
    );
    assert_eq!(
        reason(&mut call, desk.chunk(400, 16_000, &[0; 3200])).await,
        "sample_rate"
    );
    assert_eq!(
        reason(&mut call, desk.chunk(i64::MAX, 8000, &[0; 1600])).await,
        "audio_gap"
    );
    let mut broken = desk.chunk(400, 8000, &[0; 1600]);
    broken.audio.0[20] ^= 1;
    assert_eq!(reason(&mut call, broken).await, "seal");
    assert!(desk.process(&mut call, 5, &story[5], false).await.is_ok());
}

#[tokio::test]
async fn what_comes_of_a_call_after_it_was_erased_is_skipped_and_the_call_still_ends() {
    let desk = Desk::open().await;
    let story = desk.story(&shortened(sample("en.wav"), 2), "en");
    let (end, begun) = story.split_last().unwrap();
    let mut call = Memory::default();
    for (number, body) in begun.iter().enumerate() {
        desk.process(&mut call, number, body, false).await.unwrap();
    }
    assert!(!call.clone().finish().is_empty(), "someone is speaking");
    desk.stage.sealer.destroy(CALL).await.unwrap();
    let late = desk.chunk(2000, 8000, &[0; 3200]);
    let skipped = desk.process(&mut call, 90, &Body::Item(late), false).await;
    assert!(
        matches!(skipped, Err(StageError::Skip("erased"))),
        "{skipped:?}"
    );
    let events = desk.process(&mut call, 91, end, false).await.unwrap();
    let [event] = &events[..] else {
        panic!("{events:?}")
    };
    assert!(matches!(event.body, Body::Ended(_)));
}
