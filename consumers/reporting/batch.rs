//! A batch of events as rows. What belongs to one row is put together here, so that a row is
//! written once a batch.

use std::collections::BTreeMap;

use pipeline::Envelope;
use schemas::{
    AnyEvent, Body, Chunk, Ended, Event, Feedback, Head, Insight, Item, Note, Started, Tip,
    Utterance,
};

use super::stretches::Stretches;
use super::table::{
    CALL_STORIES, CALLS, CONVERSATIONS, FEEDBACK, INSIGHTS, NOTE_RESULTS, OBJECTION_OUTCOMES,
    OBJECTIONS, Row, TIPS, Table, UTTERANCES,
};

/// All tables but `audio_received`, in the order in which they are written.
pub(super) const TABLES: [(Table, Take); 10] = [
    (CALLS, |batch| {
        std::mem::take(&mut batch.calls).into_values().collect()
    }),
    (CALL_STORIES, |batch| {
        std::mem::take(&mut batch.stories)
            .into_iter()
            .map(Story::row)
            .collect()
    }),
    (UTTERANCES, |batch| std::mem::take(&mut batch.utterances)),
    (INSIGHTS, |batch| std::mem::take(&mut batch.insights)),
    (OBJECTIONS, |batch| std::mem::take(&mut batch.objections)),
    (OBJECTION_OUTCOMES, |batch| {
        std::mem::take(&mut batch.outcomes)
    }),
    (CONVERSATIONS, |batch| {
        std::mem::take(&mut batch.conversations)
    }),
    (TIPS, |batch| std::mem::take(&mut batch.tips)),
    (FEEDBACK, |batch| std::mem::take(&mut batch.feedback)),
    (NOTE_RESULTS, |batch| std::mem::take(&mut batch.notes)),
];

/// Takes a table's rows out of a batch.
pub(super) type Take = fn(&mut Batch) -> Vec<Row>;

/// Writes a row: its values one after the other.
macro_rules! row {
    ($($value:expr),+ $(,)?) => { vec![$(($value).into()),+] };
}

/// A batch of events as rows.
#[derive(Default)]
pub(super) struct Batch {
    calls: BTreeMap<String, Row>,
    stories: BTreeMap<(String, &'static str), Story>,
    /// Audio that arrived, by call: its tenant and stretches.
    pub audio: BTreeMap<String, (String, Stretches)>,
    utterances: Vec<Row>,
    insights: Vec<Row>,
    objections: Vec<Row>,
    outcomes: Vec<Row>,
    conversations: Vec<Row>,
    tips: Vec<Row>,
    feedback: Vec<Row>,
    notes: Vec<Row>,
}

/// What a topic tells of a call's start and end.
struct Story {
    tenant: String,
    first_at: i64,
    last_at: i64,
    started: bool,
    ended: Option<Ended>,
}

impl Story {
    fn row(((call, topic), story): ((String, &'static str), Self)) -> Row {
        let ended = story.ended.as_ref();
        row![
            call,
            topic,
            story.tenant,
            story.first_at,
            story.last_at,
            story.started,
            ended.is_some(),
            ended.map(|ended| ended.reason.as_str()),
            ended.map(|ended| ended.duration_ms),
            ended.and_then(|ended| ended.utterances).map(i64::from),
            ended.and_then(|ended| ended.transcribed_ms),
        ]
    }
}

impl Batch {
    /// The rows of these events.
    pub(super) fn of(events: &[Envelope<AnyEvent>]) -> Self {
        let mut batch = Self::default();
        for envelope in events {
            // A clock that runs ahead must not make every other call look silent.
            let at = envelope.event.head().time.min(envelope.timestamp);
            match &envelope.event {
                AnyEvent::Audio(event) => batch.take(event, at, Self::audio),
                AnyEvent::Transcript(event) => batch.take(event, at, Self::utterance),
                AnyEvent::Insight(event) => batch.take(event, at, Self::insight),
                AnyEvent::Tip(event) => batch.take(event, at, Self::tip),
                AnyEvent::Feedback(event) => batch.take(event, at, Self::feedback),
                AnyEvent::Note(event) => batch.take(event, at, Self::note),
                // What is to be written and what waits: its outcome is what counts.
                AnyEvent::NoteRequest(_) | AnyEvent::ParkedNote(_) => {}
            }
        }
        batch
    }

    fn take<T: Item>(&mut self, event: &Event<T>, at: i64, item: fn(&mut Self, &Head, &T)) {
        let head = &event.head;
        if T::TOPIC.story {
            let key = (head.call_id.clone(), T::TOPIC.name);
            let story = self.stories.entry(key).or_insert_with(|| Story {
                tenant: head.tenant.clone(),
                first_at: at,
                last_at: at,
                started: false,
                ended: None,
            });
            story.first_at = story.first_at.min(at);
            story.last_at = story.last_at.max(at);
            match &event.body {
                Body::Started(_) => story.started = true,
                Body::Ended(ended) if story.ended.is_none() => story.ended = Some(ended.clone()),
                Body::Ended(_) | Body::Item(_) => {}
            }
        }
        match &event.body {
            Body::Started(started) => self.started(head, started),
            Body::Item(content) => item(self, head, content),
            // Each topic's end tells what its own stage has found; later ones may repeat it.
            Body::Ended(ended) if T::TOPIC == Insight::TOPIC => self.conversation(head, ended),
            Body::Ended(ended) if T::TOPIC == Tip::TOPIC => self.outcomes(head, ended),
            Body::Ended(_) => {}
        }
    }

    fn started(&mut self, head: &Head, started: &Started) {
        if self.calls.contains_key(&head.call_id) {
            return;
        }
        let channels: Vec<_> = started
            .channels
            .iter()
            .map(|speaker| speaker.as_str())
            .collect();
        let row = row![
            head.call_id.as_str(),
            head.tenant.as_str(),
            started.rep.as_str(),
            started.customer.as_ref().map(|sealed| sealed.0.clone()),
            started.language.as_str(),
            started.source.as_str(),
            channels.join(","),
            started.started_at,
        ];
        self.calls.insert(head.call_id.clone(), row);
    }

    fn audio(&mut self, head: &Head, chunk: &Chunk) {
        let received = self.audio.entry(head.call_id.clone());
        let (_, stretches) =
            received.or_insert_with(|| (head.tenant.clone(), Stretches::default()));
        stretches.add(
            chunk.offset_ms,
            chunk.offset_ms.saturating_add(chunk.duration_ms),
        );
    }

    fn utterance(&mut self, head: &Head, utterance: &Utterance) {
        self.utterances.push(row![
            head.event_id.to_string(),
            head.call_id.as_str(),
            head.tenant.as_str(),
            head.time,
            utterance.channel,
            utterance.speaker.as_str(),
            utterance.start_ms,
            utterance.end_ms,
            utterance.language.as_str(),
            utterance.words,
            utterance.text.0.clone(),
        ]);
    }

    fn insight(&mut self, head: &Head, insight: &Insight) {
        let id = head.event_id.to_string();
        for objection in &insight.objections {
            self.objections.push(row![
                id.as_str(),
                objection.kind.as_str(),
                head.call_id.as_str(),
                head.tenant.as_str(),
                head.time,
                objection.score,
            ]);
        }
        let conversation = &insight.conversation;
        self.insights.push(row![
            id,
            insight.utterance_id.to_string(),
            head.call_id.as_str(),
            head.tenant.as_str(),
            head.time,
            insight.channel,
            insight.speaker.as_str(),
            insight.start_ms,
            insight.end_ms,
            insight.language.as_str(),
            insight.words,
            insight.sentiment.label.as_str(),
            insight.sentiment.score,
            insight.sentiment.polarity,
            insight.next_step,
            insight.interest,
            conversation.talk_ratio,
            conversation.monologue_ms,
            conversation.interruptions,
            conversation.rep_words_per_minute,
            conversation.sentiment_trend,
        ]);
    }

    fn conversation(&mut self, head: &Head, ended: &Ended) {
        let Some(conversation) = ended.conversation else {
            return;
        };
        self.conversations.push(row![
            head.call_id.as_str(),
            head.tenant.as_str(),
            conversation.talk_ratio,
            conversation.longest_monologue_ms,
            conversation.interruptions,
            conversation.rep_words_per_minute,
            conversation.sentiment_trend,
            ended.next_step,
        ]);
    }

    fn outcomes(&mut self, head: &Head, ended: &Ended) {
        for outcome in ended.objections.iter().flatten() {
            self.outcomes.push(row![
                head.call_id.as_str(),
                outcome.kind.as_str(),
                head.tenant.as_str(),
                outcome.raised,
                outcome.answered,
            ]);
        }
    }

    fn tip(&mut self, head: &Head, tip: &Tip) {
        self.tips.push(row![
            head.event_id.to_string(),
            tip.utterance_id.map(|id| id.to_string()),
            head.call_id.as_str(),
            head.tenant.as_str(),
            head.time,
            tip.rule.as_str(),
            tip.playbook.as_str(),
            tip.playbook_version.as_str(),
            tip.objection.map(|kind| kind.as_str()),
            tip.title.as_str(),
            tip.say.as_str(),
            tip.ask.as_str(),
            tip.language.as_str(),
            tip.priority,
            tip.spoken_at,
            tip.expires_at,
        ]);
    }

    fn feedback(&mut self, head: &Head, feedback: &Feedback) {
        self.feedback.push(row![
            head.event_id.to_string(),
            feedback.tip_id.to_string(),
            head.call_id.as_str(),
            head.tenant.as_str(),
            head.time,
            feedback.rep.as_str(),
            feedback.action.as_str(),
        ]);
    }

    fn note(&mut self, head: &Head, note: &Note) {
        self.notes.push(row![
            head.event_id.to_string(),
            head.call_id.as_str(),
            head.tenant.as_str(),
            head.time,
            note.crm.as_str(),
            note.result.as_str(),
            note.crm_id.clone(),
            note.attempts,
            note.latency_ms,
            note.reason.clone(),
            note.until,
        ]);
    }
}
