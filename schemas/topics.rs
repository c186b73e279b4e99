//! The topic table: adding a topic is one event file, one `.avsc` and one row here.

use std::time::Duration;

/// One row of the topic table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Name on the broker, without a prefix.
    pub name: &'static str,
    /// Avro schema, as JSON.
    pub schema: &'static str,
    /// Schema id written when no schema registry is configured.
    pub schema_id: u32,
    /// Whether it carries the call's `Started` and `Ended`.
    pub story: bool,
    /// Partitions when created.
    pub partitions: i32,
    /// How long records are kept.
    pub retention: Duration,
}

impl Topic {
    /// Where this topic's dead letters go.
    pub fn dead(&self) -> String {
        format!("{}.dead", self.name)
    }

    /// The row of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|topic| topic.name == name)
    }
}

const fn days(days: u64) -> Duration {
    Duration::from_secs(days * 24 * 60 * 60)
}

/// How long dead letters are kept: long enough for a fix and a redrive.
pub const DEAD_LETTER_RETENTION: Duration = days(30);

/// Call audio as it comes from the line.
pub const CALLS_AUDIO: Topic = Topic {
    name: "calls.audio",
    schema: include_str!("avro/calls.audio.avsc"),
    schema_id: 1,
    story: true,
    partitions: 12,
    retention: days(3),
};

/// What was said.
pub const CALLS_TRANSCRIPT: Topic = Topic {
    name: "calls.transcript",
    schema: include_str!("avro/calls.transcript.avsc"),
    schema_id: 2,
    story: true,
    partitions: 12,
    retention: days(30),
};

/// What was found in it.
pub const CALLS_INSIGHTS: Topic = Topic {
    name: "calls.insights",
    schema: include_str!("avro/calls.insights.avsc"),
    schema_id: 3,
    story: true,
    partitions: 12,
    retention: days(30),
};

/// What the rep sees.
pub const COACHING_TIPS: Topic = Topic {
    name: "coaching.tips",
    schema: include_str!("avro/coaching.tips.avsc"),
    schema_id: 4,
    story: true,
    partitions: 12,
    retention: days(30),
};

/// What the rep did with it.
pub const COACHING_FEEDBACK: Topic = Topic {
    name: "coaching.feedback",
    schema: include_str!("avro/coaching.feedback.avsc"),
    schema_id: 5,
    story: false,
    partitions: 12,
    retention: days(90),
};

/// Whose note is to be written in a CRM.
pub const CRM_REQUESTS: Topic = Topic {
    name: "crm.requests",
    schema: include_str!("avro/crm.requests.avsc"),
    schema_id: 6,
    story: false,
    partitions: 12,
    retention: days(30),
};

/// Whose note waits for a CRM.
pub const CRM_PARKED: Topic = Topic {
    name: "crm.parked",
    schema: include_str!("avro/crm.parked.avsc"),
    schema_id: 7,
    story: false,
    partitions: 12,
    retention: days(30),
};

/// What became of each note.
pub const CRM_NOTES: Topic = Topic {
    name: "crm.notes",
    schema: include_str!("avro/crm.notes.avsc"),
    schema_id: 8,
    story: false,
    partitions: 12,
    retention: days(90),
};

/// Every topic of the product.
pub const ALL: &[Topic] = &[
    CALLS_AUDIO,
    CALLS_TRANSCRIPT,
    CALLS_INSIGHTS,
    COACHING_TIPS,
    COACHING_FEEDBACK,
    CRM_REQUESTS,
    CRM_PARKED,
    CRM_NOTES,
];
