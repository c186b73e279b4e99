//! The tables, and rows on their way into them, many in one statement.

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe};

/// Rows in one statement. Few sizes, so that the database keeps few statements prepared.
const SIZES: [usize; 4] = [128, 32, 8, 1];

/// A value of a column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(Option<String>),
    Whole(Option<i64>),
    Real(f64),
    Flag(Option<bool>),
    Bytes(Option<Vec<u8>>),
}

/// One row, in the order of its table's columns.
pub(crate) type Row = Vec<Value>;

/// How rows get into a table.
pub(crate) struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its columns.
    pub columns: &'static [&'static str],
    /// What happens to a row that is there.
    pub conflict: &'static str,
}

impl Table {
    /// Inserts rows; gives what the statement returns of each, if it does.
    pub(crate) async fn insert(
        &self,
        connection: &mut AnyConnection,
        rows: Vec<Row>,
    ) -> Result<Vec<AnyRow>, sqlx::Error> {
        let mut returned = Vec::new();
        let mut rows = rows.into_iter();
        while rows.len() > 0 {
            let size = SIZES.into_iter().find(|size| *size <= rows.len());
            let size = size.unwrap_or(1);
            let statement = AssertSqlSafe(self.statement(size));
            let mut query = sqlx::query(statement);
            for value in rows.by_ref().take(size).flatten() {
                query = bind(query, value);
            }
            returned.extend(query.fetch_all(&mut *connection).await?);
        }
        Ok(returned)
    }

    /// The statement for so many rows.
    fn statement(&self, rows: usize) -> String {
        let width = self.columns.len();
        let row = |index: usize| {
            let places: Vec<String> = (1..=width)
                .map(|at| format!("${}", index * width + at))
                .collect();
            format!("({})", places.join(", "))
        };
        let rows: Vec<String> = (0..rows).map(row).collect();
        format!(
            "INSERT INTO {} ({}) VALUES {} {}",
            self.name,
            self.columns.join(", "),
            rows.join(", "),
            self.conflict
        )
    }
}

fn bind(query: Query<'_, Any, AnyArguments>, value: Value) -> Query<'_, Any, AnyArguments> {
    match value {
        Value::Text(text) => query.bind(text),
        Value::Whole(number) => query.bind(number),
        Value::Real(number) => query.bind(number),
        Value::Flag(flag) => query.bind(flag),
        Value::Bytes(bytes) => query.bind(bytes),
    }
}

macro_rules! from {
    ($($type:ty => |$value:ident| $made:expr;)+) => {
        $(impl From<$type> for Value {
            fn from($value: $type) -> Self {
                $made
            }
        })+
    };
}

from! {
    &str => |text| Self::Text(Some(text.to_owned()));
    Option<&str> => |text| Self::Text(text.map(str::to_owned));
    String => |text| Self::Text(Some(text));
    Option<String> => |text| Self::Text(text);
    i32 => |number| Self::Whole(Some(number.into()));
    i64 => |number| Self::Whole(Some(number));
    Option<i64> => |number| Self::Whole(number);
    f32 => |number| Self::Real(number.into());
    bool => |flag| Self::Flag(Some(flag));
    Option<bool> => |flag| Self::Flag(flag);
    Vec<u8> => |bytes| Self::Bytes(Some(bytes));
    Option<Vec<u8>> => |bytes| Self::Bytes(bytes);
}

// === The tables ===

/// What is there stays: it came from the same event.
const KEEP: &str = "ON CONFLICT DO NOTHING";

pub(super) const CALLS: Table = Table {
    name: "calls",
    columns: &[
        "call_id",
        "tenant",
        "rep",
        "customer",
        "language",
        "source",
        "channels",
        "started_at",
    ],
    conflict: KEEP,
};

pub(super) const CALL_STORIES: Table = Table {
    name: "call_stories",
    columns: &[
        "call_id",
        "topic",
        "tenant",
        "first_at",
        "last_at",
        "started",
        "ended",
        "end_reason",
        "duration_ms",
        "utterances",
        "transcribed_ms",
    ],
    conflict: "ON CONFLICT (call_id, topic) DO UPDATE SET \
        first_at = CASE WHEN excluded.first_at < call_stories.first_at \
            THEN excluded.first_at ELSE call_stories.first_at END, \
        last_at = CASE WHEN excluded.last_at > call_stories.last_at \
            THEN excluded.last_at ELSE call_stories.last_at END, \
        started = call_stories.started OR excluded.started, \
        ended = call_stories.ended OR excluded.ended, \
        end_reason = COALESCE(call_stories.end_reason, excluded.end_reason), \
        duration_ms = COALESCE(call_stories.duration_ms, excluded.duration_ms), \
        utterances = COALESCE(call_stories.utterances, excluded.utterances), \
        transcribed_ms = COALESCE(call_stories.transcribed_ms, excluded.transcribed_ms)",
};

pub(super) const UTTERANCES: Table = Table {
    name: "utterances",
    columns: &[
        "event_id",
        "call_id",
        "tenant",
        "spoken_at",
        "channel",
        "speaker",
        "start_ms",
        "end_ms",
        "language",
        "words",
        "text",
    ],
    conflict: KEEP,
};

pub(super) const INSIGHTS: Table = Table {
    name: "insights",
    columns: &[
        "event_id",
        "utterance_id",
        "call_id",
        "tenant",
        "spoken_at",
        "channel",
        "speaker",
        "start_ms",
        "end_ms",
        "language",
        "words",
        "sentiment",
        "sentiment_score",
        "polarity",
        "next_step",
        "interest",
        "talk_ratio",
        "monologue_ms",
        "interruptions",
        "rep_words_per_minute",
        "sentiment_trend",
    ],
    conflict: KEEP,
};

pub(super) const OBJECTIONS: Table = Table {
    name: "objections",
    columns: &[
        "insight_id",
        "kind",
        "call_id",
        "tenant",
        "spoken_at",
        "score",
    ],
    conflict: KEEP,
};

pub(super) const OBJECTION_OUTCOMES: Table = Table {
    name: "objection_outcomes",
    columns: &["call_id", "kind", "tenant", "raised", "answered"],
    conflict: KEEP,
};

pub(super) const CONVERSATIONS: Table = Table {
    name: "conversations",
    columns: &[
        "call_id",
        "tenant",
        "talk_ratio",
        "longest_monologue_ms",
        "interruptions",
        "rep_words_per_minute",
        "sentiment_trend",
        "next_step",
    ],
    conflict: KEEP,
};

pub(super) const TIPS: Table = Table {
    name: "tips",
    columns: &[
        "event_id",
        "utterance_id",
        "call_id",
        "tenant",
        "given_at",
        "rule",
        "playbook",
        "playbook_version",
        "objection",
        "title",
        "say",
        "ask",
        "language",
        "priority",
        "spoken_at",
        "expires_at",
    ],
    conflict: KEEP,
};

pub(super) const FEEDBACK: Table = Table {
    name: "feedback",
    columns: &[
        "event_id", "tip_id", "call_id", "tenant", "given_at", "rep", "action",
    ],
    conflict: KEEP,
};

pub(super) const NOTE_RESULTS: Table = Table {
    name: "note_results",
    columns: &[
        "event_id",
        "call_id",
        "tenant",
        "happened_at",
        "crm",
        "result",
        "crm_id",
        "attempts",
        "latency_ms",
        "reason",
        "until_at",
    ],
    conflict: KEEP,
};

/// Where audio that arrived is counted. `LOCK` also gives what was counted before.
pub(super) const AUDIO: Table = Table {
    name: "audio_received",
    columns: &["call_id", "tenant", "stretches", "received_ms"],
    conflict: "ON CONFLICT (call_id) DO UPDATE SET \
        stretches = excluded.stretches, received_ms = excluded.received_ms",
};
pub(super) const LOCK: Table = Table {
    name: AUDIO.name,
    columns: AUDIO.columns,
    conflict: "ON CONFLICT (call_id) DO UPDATE SET tenant = excluded.tenant \
        RETURNING call_id, stretches",
};
