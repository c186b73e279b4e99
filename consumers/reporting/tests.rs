use std::path::Path;
use std::time::{Duration, Instant};

use pipeline::config::DatabaseUrl;
use pipeline::database::{DatabaseSettings, connect};
use pipeline::seal::{MasterKey, MemoryKeys};
use pipeline::{Field, Origin, Sealer, TraceContext};
use schemas::*;
use sqlx::{AssertSqlSafe, Executor};

use super::*;

const START: i64 = 1_790_000_000_000;
const CHUNKS: i64 = 40;

type Events = Vec<Envelope<AnyEvent>>;

fn settings(url: &str, connections: u32) -> DatabaseSettings {
    DatabaseSettings {
        url: DatabaseUrl::new(url),
        connections,
    }
}

async fn reporting(url: &str) -> Reporting {
    let pool = connect(&settings(url, 4)).await.unwrap();
    Reporting::connect(Settings::default(), pool).await.unwrap()
}

/// Runs a test twice: with addresses of new SQLite files, then of new PostgreSQL databases.
async fn each_kind(test: impl AsyncFn(&dyn AsyncNew)) {
    let folder = tempfile::tempdir().unwrap();
    test(&Files(folder.path().to_owned())).await;
    test(&Server).await;
}

/// Makes new empty databases.
trait AsyncNew {
    fn create(&self) -> futures::future::BoxFuture<'_, String>;
}

struct Files(std::path::PathBuf);
struct Server;

impl AsyncNew for Files {
    fn create(&self) -> futures::future::BoxFuture<'_, String> {
        let file = self.0.join(harness::unique("coach"));
        Box::pin(async move { format!("sqlite:{}.db", file.display()) })
    }
}

impl AsyncNew for Server {
    fn create(&self) -> futures::future::BoxFuture<'_, String> {
        Box::pin(async { harness::postgres().await.create_database().await })
    }
}

fn envelope(event: AnyEvent, offset: usize) -> Envelope<AnyEvent> {
    Envelope {
        timestamp: event.head().time + 20,
        origin: Origin {
            topic: "test".into(),
            partition: 0,
            offset: offset as i64,
        },
        trace: TraceContext::default(),
        rebuilding: false,
        event,
    }
}

/// The events of one topic of a call, in order: its start, its items each at its time, its end.
fn story<T: Item>(
    call: &str,
    at: i64,
    items: Vec<(i64, T)>,
    ended: Ended,
    any: fn(Event<T>) -> AnyEvent,
) -> Events {
    let started = Started {
        rep: "ana".into(),
        customer: Some(Sealed(b"sealed customer".to_vec())),
        language: "auto".into(),
        source: "wav".into(),
        channels: vec![Speaker::Rep, Speaker::Customer],
        started_at: at,
    };
    let end = ended.duration_ms;
    let mut bodies = vec![(0, Body::Started(started))];
    bodies.extend(
        items
            .into_iter()
            .map(|(time, item)| (time, Body::Item(item))),
    );
    bodies.push((end, Body::Ended(ended)));
    let event = |(index, (time, body)): (usize, (i64, Body<T>))| {
        let event_id = EventId::derive(T::TOPIC.name, call, u32::try_from(index).unwrap());
        let head = Head {
            event_id,
            call_id: call.into(),
            tenant: "acme".into(),
            time: at + time,
        };
        envelope(any(Event { head, body }), index)
    };
    bodies.into_iter().enumerate().map(event).collect()
}

fn utterance(n: i64, text: &[u8]) -> Utterance {
    Utterance {
        channel: (n % 2) as i32,
        speaker: if n % 2 == 0 {
            Speaker::Rep
        } else {
            Speaker::Customer
        },
        start_ms: n * 400,
        end_ms: n * 400 + 300,
        language: Language::Es,
        words: 5,
        text: Sealed(text.to_vec()),
    }
}

fn insight(call: &str, n: i64) -> Insight {
    let kinds: &[ObjectionKind] = match n {
        1 => &[ObjectionKind::Price, ObjectionKind::Stall],
        3 => &[ObjectionKind::Price],
        _ => &[],
    };
    let objection = |kind: &ObjectionKind| Objection {
        kind: *kind,
        score: 0.75,
    };
    Insight {
        utterance_id: EventId::derive("calls.transcript", call, n as u32 + 1),
        channel: (n % 2) as i32,
        speaker: if n % 2 == 0 {
            Speaker::Rep
        } else {
            Speaker::Customer
        },
        start_ms: n * 400,
        end_ms: n * 400 + 300,
        language: Language::Es,
        words: 5,
        sentiment: Sentiment {
            label: SentimentLabel::Negative,
            score: 0.75,
            polarity: -0.5,
        },
        objections: kinds.iter().map(objection).collect(),
        next_step: n == 9,
        interest: n == 8,
        conversation: Conversation::default(),
    }
}

fn tip(call: &str, n: i64) -> Tip {
    Tip {
        utterance_id: Some(EventId::derive("calls.transcript", call, n as u32 + 1)),
        rule: "price".into(),
        playbook: "default".into(),
        playbook_version: "1".into(),
        objection: Some(ObjectionKind::Price),
        title: "Precio".into(),
        say: "Hablemos del valor".into(),
        ask: "¿Qué cuesta no hacerlo?".into(),
        language: Language::Es,
        priority: 1,
        spoken_at: START,
        expires_at: START + 20_000,
    }
}

/// A whole call: what each of the five topics tells of it, each in order.
fn call(call: &str, at: i64, text: &[u8]) -> [Events; 6] {
    let duration_ms = CHUNKS * 100;
    let chunk = |n: i64| Chunk {
        offset_ms: n * 100,
        duration_ms: 100,
        sample_rate: 8000,
        encoding: Encoding::PcmS16le,
        audio: Sealed(vec![0; 3200]),
    };
    let audio = Ended {
        reason: EndReason::Hangup,
        duration_ms,
        utterances: None,
        transcribed_ms: None,
        conversation: None,
        objections: None,
        next_step: None,
    };
    let transcript = Ended {
        utterances: Some(10),
        transcribed_ms: Some(duration_ms),
        ..audio.clone()
    };
    let conversation = Conversation {
        talk_ratio: 0.5,
        interruptions: 2,
        ..Conversation::default()
    };
    let insights = Ended {
        conversation: Some(conversation),
        next_step: Some(true),
        ..transcript.clone()
    };
    let outcome = |kind, answered| ObjectionOutcome {
        kind,
        raised: 2,
        answered,
    };
    let outcomes = vec![
        outcome(ObjectionKind::Price, true),
        outcome(ObjectionKind::Stall, false),
    ];
    let tips = Ended {
        objections: Some(outcomes),
        ..insights.clone()
    };
    let tip_id = EventId::derive("coaching.tips", call, 1);
    let feedback = |n: u32, action| {
        let head = Head {
            event_id: EventId::derive("coaching.feedback", call, n),
            call_id: call.into(),
            tenant: "acme".into(),
            time: at + 2000,
        };
        let body = Body::Item(Feedback {
            tip_id,
            rep: "ana".into(),
            action,
        });
        envelope(AnyEvent::Feedback(Event { head, body }), n as usize)
    };
    let note = Event {
        head: Head {
            event_id: EventId::derive("crm.notes", call, 0),
            call_id: call.into(),
            tenant: "acme".into(),
            time: at + 6000,
        },
        body: Body::Item(Note {
            crm: Crm::Hubspot,
            result: NoteResult::Written,
            crm_id: Some("77".into()),
            attempts: 1,
            latency_ms: Some(900),
            reason: None,
            until: None,
        }),
    };
    [
        story(
            call,
            at,
            (0..CHUNKS).map(|n| (n * 100, chunk(n))).collect(),
            audio,
            AnyEvent::Audio,
        ),
        story(
            call,
            at,
            (0..10)
                .map(|n| (n * 400 + 300, utterance(n, text)))
                .collect(),
            transcript,
            AnyEvent::Transcript,
        ),
        story(
            call,
            at,
            (0..10).map(|n| (n * 400 + 300, insight(call, n))).collect(),
            insights,
            AnyEvent::Insight,
        ),
        story(
            call,
            at,
            [1, 3].map(|n| (n * 400 + 300, tip(call, n))).to_vec(),
            tips,
            AnyEvent::Tip,
        ),
        vec![feedback(0, Action::Shown), feedback(1, Action::Used)],
        vec![envelope(AnyEvent::Note(note), 0)],
    ]
}

/// Topics side by side in an order that `seed` decides; each topic stays in its own order.
fn interleaved(topics: impl IntoIterator<Item = Events>, seed: u64) -> Events {
    let mut topics: Vec<_> = topics
        .into_iter()
        .map(|events| events.into_iter().peekable())
        .collect();
    let (mut mixed, mut state) = (Vec::new(), seed);
    while !topics.is_empty() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let at = (state >> 33) as usize % topics.len();
        mixed.extend(topics[at].next());
        topics.retain_mut(|events| events.peek().is_some());
    }
    mixed
}

/// Every row of every table as text, sorted.
async fn rows(pool: &AnyPool) -> Vec<String> {
    let mut rows = Vec::new();
    for (table, columns) in batch::TABLES
        .iter()
        .map(|(t, _)| (t.name, t.columns))
        .chain([(AUDIO.name, AUDIO.columns)])
    {
        let texts: Vec<_> = columns
            .iter()
            .map(|c| format!("COALESCE(CAST({c} AS TEXT), '-')"))
            .collect();
        let sql = format!("SELECT {} FROM {table}", texts.join(" || '|' || "));
        for row in sqlx::query(AssertSqlSafe(sql))
            .fetch_all(pool)
            .await
            .unwrap()
        {
            rows.push(format!("{table}: {}", row.get::<String, _>(0)));
        }
    }
    rows.sort();
    rows
}

async fn ledger(pool: &AnyPool, call: &str) -> (String, String) {
    let row = sqlx::query("SELECT status, missing FROM call_ledger WHERE call_id = $1")
        .bind(call)
        .fetch_one(pool)
        .await
        .unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn events_in_any_interleaving_and_number_give_the_same_rows() {
    each_kind(async |kind| {
        let mut expected: Option<Vec<String>> = None;
        for (seed, batch) in [(1, 1000), (2, 7), (3, 1), (4, 30)] {
            let sink = reporting(&kind.create().await).await;
            let calls = [
                call("call-1", START, b"sealed"),
                call("call-2", START + 500, b"sealed"),
            ];
            let events = interleaved(calls.into_iter().flatten(), seed);
            for batch in events.chunks(batch) {
                sink.write(batch).await.unwrap();
            }
            // A restart reads some of it again, in other batches.
            for batch in events[events.len() / 3..].chunks(batch + 5) {
                sink.write(batch).await.unwrap();
            }
            let found = rows(&sink.pool).await;
            assert_eq!(
                found.len(),
                2 * (1 + 4 + 1 + 10 + 10 + 3 + 2 + 1 + 2 + 2 + 1)
            );
            assert_eq!(
                &found,
                expected.get_or_insert(found.clone()),
                "interleaving {seed}"
            );
            assert_eq!(
                ledger(&sink.pool, "call-1").await,
                ("complete".into(), String::new())
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_names_what_a_call_lacks() {
    each_kind(async |kind| {
        let sink = reporting(&kind.create().await).await;
        let write = async |topics: [Events; 6]| {
            for events in topics {
                sink.write(&events).await.unwrap();
            }
        };
        let mut lost_audio = call("lost-audio", START, b"x");
        lost_audio[0].drain(5..9);
        write(lost_audio).await;
        let mut lost_words = call("lost-words", START, b"x");
        lost_words[1].remove(4);
        lost_words[2].drain(6..8);
        write(lost_words).await;
        let mut deaf = call("deaf", START, b"x");
        for events in &mut deaf[1] {
            if let AnyEvent::Transcript(Event {
                body: Body::Ended(ended),
                ..
            }) = &mut events.event
            {
                ended.transcribed_ms = Some(1000);
            }
        }
        write(deaf).await;
        let mut unfinished = call("unfinished", START, b"x");
        unfinished
            .iter_mut()
            .take(4)
            .for_each(|events| events.truncate(3));
        unfinished[3].clear();
        write(unfinished).await;
        write(call("whole", START, b"x")).await;

        let judged = async |call: &str| ledger(&sink.pool, call).await;
        let incomplete = |missing: &str| ("incomplete".to_owned(), missing.to_owned());
        assert_eq!(judged("whole").await, ("complete".into(), String::new()));
        let audio = "audio: 3600 of 4000 ms received";
        assert_eq!(judged("lost-audio").await, incomplete(audio));
        let words = "utterances: 9 of 10 written; insights: 8 of 9 written";
        assert_eq!(judged("lost-words").await, incomplete(words));
        let deaf = "transcription: 1000 of 4000 ms read";
        assert_eq!(judged("deaf").await, incomplete(deaf));
        let ends = "coaching.tips: no start; calls.audio: no end; calls.transcript: no end; \
                    calls.insights: no end; coaching.tips: no end";
        assert_eq!(judged("unfinished").await, ("open".into(), ends.into()));

        // A later call shows that the silence is over; a clock that runs ahead does not.
        let mut ahead = call("ahead", START + 40 * 60 * 60 * 1000, b"x");
        ahead
            .iter_mut()
            .flatten()
            .for_each(|envelope| envelope.timestamp = START + 60_000);
        write(ahead).await;
        assert_eq!(judged("unfinished").await.0, "open");
        write(call("later", START + 5 * 60 * 60 * 1000, b"x")).await;
        assert_eq!(judged("unfinished").await, ("timeout".into(), ends.into()));
        assert_eq!(judged("whole").await.0, "complete");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_comes_as_a_transcript_needs_no_audio() {
    each_kind(async |kind| {
        let sink = reporting(&kind.create().await).await;
        let mut topics = call("call-1", START, b"x");
        topics[0].clear();
        for envelope in topics.iter_mut().flatten() {
            let (AnyEvent::Transcript(Event {
                body: Body::Started(started),
                ..
            })
            | AnyEvent::Insight(Event {
                body: Body::Started(started),
                ..
            })
            | AnyEvent::Tip(Event {
                body: Body::Started(started),
                ..
            })) = &mut envelope.event
            else {
                continue;
            };
            started.source = "transcript".into();
        }
        sink.write(&interleaved(topics, 5)).await.unwrap();
        assert_eq!(
            ledger(&sink.pool, "call-1").await,
            ("complete".into(), String::new())
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_summary_of_a_call_counts_what_lies_in_the_database() {
    each_kind(async |kind| {
        let sink = reporting(&kind.create().await).await;
        for name in ["call-1", "call-2"] {
            sink.write(&interleaved(call(name, START, b"x"), 1))
                .await
                .unwrap();
        }
        let expected = Summary {
            utterances: 10,
            objections: vec![(ObjectionKind::Price, 2), (ObjectionKind::Stall, 1)],
            tips: 2,
            feedback: vec![(Action::Shown, 1), (Action::Used, 1)],
            rows: 37,
            status: "complete".into(),
            missing: String::new(),
        };
        assert_eq!(summary(&sink.pool, "call-1").await.unwrap(), expected);
        assert_eq!(
            summary(&sink.pool, "no such call").await.unwrap(),
            Summary::default()
        );
        let tables = batch::TABLES
            .iter()
            .map(|(table, _)| table.name)
            .chain([AUDIO.name]);
        let mut tables: Vec<_> = tables.collect();
        let mut counted = summary::TABLES;
        tables.sort_unstable();
        counted.sort_unstable();
        assert_eq!(tables, counted);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_nothing_is_lost_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/coach.db", folder.path().display());
    let pool = connect(&settings(&url, 1)).await.unwrap();
    let sink = Reporting::connect(Settings::default(), pool.clone())
        .await
        .unwrap();
    // As many pages as there are: the file cannot grow, as on a disk that is full.
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count")
        .fetch_one(&pool)
        .await
        .unwrap();
    let limit = |pages: i64| AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
    pool.execute(limit(pages)).await.unwrap();
    let events = interleaved(call("call-1", START, &[7; 4000]), 1);
    let error = sink.write(&events).await.unwrap_err();
    assert!(matches!(error, StageError::Transient(_)), "{error:?}");
    assert!(format!("{error:?}").contains("disk is full"), "{error:?}");
    pool.execute(limit(1_000_000)).await.unwrap();
    sink.write(&events).await.unwrap();
    assert_eq!(ledger(&pool, "call-1").await.0, "complete");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_sqlite_ended_by_itself_costs_one_try() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/coach.db", folder.path().display());
    let pool = connect(&settings(&url, 1)).await.unwrap();
    let sink = Reporting::connect(Settings::default(), pool.clone())
        .await
        .unwrap();
    // What a disk that is full does to a transaction.
    let mut transaction = pool.begin().await.unwrap();
    transaction.execute("ROLLBACK").await.unwrap();
    drop(transaction);
    let events = interleaved(call("call-1", START, b"x"), 1);
    let error = sink.write(&events).await.unwrap_err();
    assert!(matches!(error, StageError::Transient(_)), "{error:?}");
    sink.write(&events).await.unwrap();
    assert_eq!(ledger(&pool, "call-1").await.0, "complete");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_file_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/coach.db", folder.path().display());
    let sink = reporting(&url).await;
    let events = interleaved(call("call-1", START, b"x"), 1);
    let other = connect(&settings(&url, 1)).await.unwrap();
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let error = sink.write(&events).await.unwrap_err();
    assert!(matches!(error, StageError::Transient(_)), "{error:?}");
    assert!(format!("{error:?}").contains("locked"), "{error:?}");
    lock.rollback().await.unwrap();
    sink.write(&events).await.unwrap();
    assert_eq!(ledger(&sink.pool, "call-1").await.0, "complete");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_server_is_transient_and_nothing_is_lost_once_it_is_back() {
    let server = harness::Postgres::start().await;
    let sink = reporting(&server.create_database().await).await;
    let events = interleaved(call("call-1", START, b"x"), 1);
    let (before, after) = events.split_at(30);
    sink.write(before).await.unwrap();
    server.kill().await;
    for _ in 0..2 {
        let error = sink.write(after).await.unwrap_err();
        assert!(matches!(error, StageError::Transient(_)), "{error:?}");
    }
    server.restart().await;
    // The pool may still hold a connection that died; that too passes.
    harness::eventually(
        Duration::from_secs(30),
        "it writes again",
        async || match sink.write(after).await {
            Ok(()) => Some(()),
            Err(StageError::Transient(_)) => None,
            Err(error) => panic!("{error:?}"),
        },
    )
    .await;
    assert_eq!(ledger(&sink.pool, "call-1").await.0, "complete");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_database_cannot_hold_is_poison_and_leaves_nothing() {
    let sink = reporting(&harness::postgres().await.create_database().await).await;
    let mut events = interleaved(call("call-1", START, b"x"), 1);
    for envelope in &mut events {
        if let AnyEvent::Tip(Event {
            body: Body::Item(tip),
            ..
        }) = &mut envelope.event
        {
            tip.say = "no \0 in PostgreSQL's text".into();
        }
    }
    let error = sink.write(&events).await.unwrap_err();
    assert!(
        matches!(&error, StageError::Poison(p) if p.reason == "database"),
        "{error:?}"
    );
    assert_eq!(rows(&sink.pool).await, Vec::<String>::new());
}

/// Whether the bytes of any file below `folder` contain `word`.
fn lies_below(folder: &Path, word: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return lies_below(&path, word);
        }
        // Files come and go while the server runs.
        let bytes = std::fs::read(&path).unwrap_or_default();
        bytes.windows(word.len()).any(|window| window == word)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spoken_word_lies_in_the_raw_bytes_of_any_table() {
    let folder = tempfile::tempdir().unwrap();
    let server = harness::Postgres::start().await;
    let places = [
        (
            format!("sqlite:{}/coach.db", folder.path().display()),
            folder.path(),
        ),
        (server.create_database().await, server.folder()),
    ];
    for (url, place) in places {
        let sink = reporting(&url).await;
        let master = MasterKey::from_base64(&MasterKey::generate()).unwrap();
        let sealer = Sealer::new(master, MemoryKeys::default());
        let key = sealer.create("acme", "call-1").await.unwrap();
        let spoken = "demasiado caro, llámame al 555-0199";
        let text = key.seal(Field::TEXT, spoken.as_bytes()).unwrap();
        let customer = key.seal(Field::CUSTOMER, b"Sra. Quintanilla").unwrap();
        let mut topics = call("call-1", START, &text.0);
        for envelope in topics.iter_mut().flatten() {
            if let AnyEvent::Transcript(Event {
                body: Body::Started(started),
                ..
            }) = &mut envelope.event
            {
                started.customer = Some(customer.clone());
            }
        }
        for events in [1, 2, 3, 0, 4].map(|topic| topics[topic].clone()) {
            sink.write(&events).await.unwrap();
        }
        if url.starts_with("postgres") {
            sink.pool.execute("CHECKPOINT").await.unwrap();
        }
        for word in ["demasiado", "llámame", "555-0199", "Quintanilla"] {
            assert!(
                !lies_below(place, word.as_bytes()),
                "{word} below {}",
                place.display()
            );
        }
        // The search would find it: what is not sealed is there, and so is what is.
        for bytes in [b"Hablemos del valor", &text.0[..], &customer.0[..]] {
            assert!(lies_below(place, bytes));
        }
        let sealed: Vec<u8> = sqlx::query_scalar("SELECT text FROM utterances LIMIT 1")
            .fetch_one(&sink.pool)
            .await
            .unwrap();
        assert_eq!(key.open_text(Field::TEXT, &Sealed(sealed)).unwrap(), spoken);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; cargo test --release -p consumers reporting -- --ignored --nocapture"]
async fn five_thousand_events_a_second_are_written() {
    each_kind(async |kind| {
        let url = kind.create().await;
        let sink = reporting(&url).await;
        let calls = (0..400).flat_map(|n| call(&format!("call-{n}"), START + n, &[7; 120]));
        let events = interleaved(calls, 1);
        let started = Instant::now();
        for batch in events.chunks(500) {
            sink.write(batch).await.unwrap();
        }
        let rate = events.len() as f64 / started.elapsed().as_secs_f64();
        let kind = url.split(':').next().unwrap_or_default();
        println!("{kind}: {} events, {rate:.0} a second", events.len());
        assert!(rate >= 5000.0, "{kind}: {rate}");
    })
    .await;
}
