//! What the terminal shows while the call is on.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use owo_colors::{OwoColorize, Stream::Stdout, Style};
use pipeline::{Envelope, Field, SealError, Sealer};
use producers::call::Pace;
use schemas::{
    AnyEvent, Body, EventId, Insight, ObjectionKind, SentimentLabel, Speaker, Tip, Utterance,
};
use tokio::time::Instant;

/// Columns of text before a line is broken.
const TEXT: usize = 58;

/// Says where the panel is.
pub fn invite(address: &str) {
    println!("The softphone panel, as the rep sees it:\n\n    {address}\n");
}

/// The call as it happens.
pub struct Screen {
    call_id: String,
    started_at: i64,
    pace: Pace,
    sealer: Sealer,
    /// Words whose insight has not come yet.
    words: HashMap<EventId, String>,
    /// Insights whose words have not come yet, or those of one before them: topics are read side by side.
    early: VecDeque<Insight>,
    /// Utterances that were shown.
    pub utterances: usize,
    /// Objections found, by kind.
    pub objections: BTreeMap<ObjectionKind, usize>,
    /// How long after the customer's last word each tip came.
    pub latencies: Vec<Duration>,
    ended: bool,
}

impl Screen {
    /// A screen for a call that is played at `pace`.
    pub fn new(call_id: &str, pace: Pace, sealer: Sealer) -> Self {
        Self {
            call_id: call_id.to_owned(),
            started_at: 0,
            pace,
            sealer,
            words: HashMap::new(),
            early: VecDeque::new(),
            utterances: 0,
            objections: BTreeMap::new(),
            latencies: Vec::new(),
            ended: false,
        }
    }

    /// Whether everything of the call has been shown.
    pub fn over(&self) -> bool {
        self.ended && self.early.is_empty()
    }

    /// Shows an event; those of other calls are passed over.
    ///
    /// # Errors
    /// When words cannot be opened.
    pub async fn show(&mut self, envelope: &Envelope<AnyEvent>) -> Result<(), SealError> {
        let event = &envelope.event;
        if event.head().call_id != self.call_id {
            return Ok(());
        }
        if let Some(started) = event.started() {
            self.started_at = started.started_at;
        }
        match event {
            AnyEvent::Transcript(event) => {
                if let Body::Item(utterance) = &event.body {
                    self.hear(event.head.event_id, utterance).await?;
                    self.understand();
                }
            }
            AnyEvent::Insight(event) => {
                if let Body::Item(insight) = &event.body {
                    self.early.push_back(insight.clone());
                    self.understand();
                }
            }
            AnyEvent::Tip(event) => match &event.body {
                Body::Item(tip) => self.tip(tip),
                Body::Ended(_) => self.ended = true,
                Body::Started(_) => {}
            },
            AnyEvent::Audio(_)
            | AnyEvent::Feedback(_)
            | AnyEvent::NoteRequest(_)
            | AnyEvent::ParkedNote(_)
            | AnyEvent::Note(_) => {}
        }
        Ok(())
    }

    async fn hear(&mut self, id: EventId, utterance: &Utterance) -> Result<(), SealError> {
        let key = self.sealer.key(&self.call_id).await?;
        self.words
            .insert(id, key.open_text(Field::TEXT, &utterance.text)?);
        Ok(())
    }

    /// Shows the insights whose words are there, in order.
    fn understand(&mut self) {
        while let Some(insight) = self.early.front() {
            let Some(words) = self.words.remove(&insight.utterance_id) else {
                return;
            };
            if let Some(insight) = self.early.pop_front() {
                self.print(&insight, &words);
            }
        }
    }

    fn print(&mut self, insight: &Insight, words: &str) {
        self.utterances += 1;
        let time = format!(
            "{}:{:02}",
            insight.start_ms / 60_000,
            insight.start_ms / 1000 % 60
        );
        let who = match insight.speaker {
            Speaker::Rep => Style::new().blue(),
            Speaker::Customer => Style::new().magenta().bold(),
        };
        let mut lines = wrap(words, TEXT).into_iter();
        println!(
            "{:>6}  {}  {}",
            time.if_supports_color(Stdout, |text| text.dimmed()),
            format!("{:<8}", insight.speaker).if_supports_color(Stdout, |text| text.style(who)),
            lines.next().unwrap_or_default(),
        );
        for line in lines {
            println!("{:18}{line}", "");
        }
        if insight.speaker == Speaker::Customer {
            println!("{:18}{}", "", self.findings(insight));
        }
    }

    fn findings(&mut self, insight: &Insight) -> String {
        let sentiment = insight.sentiment;
        let style = match sentiment.label {
            SentimentLabel::Negative => Style::new().red(),
            SentimentLabel::Neutral => Style::new().dimmed(),
            SentimentLabel::Positive => Style::new().green(),
        };
        let mut found = format!("{} {:.2}", sentiment.label, sentiment.score)
            .if_supports_color(Stdout, |text| text.style(style))
            .to_string();
        for objection in &insight.objections {
            *self.objections.entry(objection.kind).or_default() += 1;
            let text = format!("objection: {} {:.2}", objection.kind, objection.score);
            found += &format!(
                "   {}",
                text.if_supports_color(Stdout, |text| text.style(Style::new().yellow().bold()))
            );
        }
        found
    }

    fn tip(&mut self, tip: &Tip) {
        let spoken = self.pace.due(tip.spoken_at - self.started_at);
        let latency = spoken.map_or(Duration::ZERO, |spoken| Instant::now() - spoken);
        self.latencies.push(latency);
        let after = format!("{:.2} s after the last word", latency.as_secs_f64());
        let style = Style::new().cyan().bold();
        let bar = "┃";
        println!();
        for (name, text) in [("TIP", &tip.title), ("say", &tip.say), ("ask", &tip.ask)] {
            let tail = if name == "TIP" { after.as_str() } else { "" };
            println!(
                "{:8}{} {} {}  {}",
                "",
                bar.if_supports_color(Stdout, |text| text.style(style)),
                format!("{name:<5}").if_supports_color(Stdout, |text| text.style(style)),
                text.if_supports_color(Stdout, |text| text.bold()),
                tail.if_supports_color(Stdout, |text| text.dimmed()),
            );
        }
        println!();
    }
}

/// Breaks a text into lines of about `width` columns; Mandarin has no spaces to break at and its
/// characters take two columns.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let (mut lines, mut line, mut columns) = (Vec::new(), String::new(), 0);
    for piece in text.split_inclusive(|c: char| c == ' ' || c >= '\u{2e80}') {
        let taken: usize = piece
            .chars()
            .map(|c| if c >= '\u{2e80}' { 2 } else { 1 })
            .sum();
        if columns + taken > width && columns > 0 {
            lines.push(std::mem::take(&mut line));
            columns = 0;
        }
        line += piece;
        columns += taken;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use pipeline::seal::{MasterKey, MemoryKeys};
    use schemas::{Conversation, Language, Sentiment};

    use super::*;

    fn insight(utterance_id: EventId) -> Insight {
        Insight {
            utterance_id,
            channel: 1,
            speaker: Speaker::Customer,
            start_ms: 0,
            end_ms: 900,
            language: Language::En,
            words: 2,
            sentiment: Sentiment {
                label: SentimentLabel::Neutral,
                score: 0.9,
                polarity: 0.0,
            },
            objections: Vec::new(),
            next_step: false,
            interest: false,
            conversation: Conversation::default(),
        }
    }

    #[test]
    fn an_insight_that_comes_before_its_words_waits_for_them() {
        let master = MasterKey::from_base64(&MasterKey::generate()).unwrap();
        let sealer = Sealer::new(master, MemoryKeys::default());
        let mut screen = Screen::new("call-1", Pace::start(1.0), sealer);
        let [first, second] = [1, 2].map(|n| EventId::derive("test", "call-1", n));
        screen.words.insert(second, "hello again".to_owned());
        screen.early.extend([insight(first), insight(second)]);
        screen.ended = true;
        screen.understand();
        assert_eq!((screen.utterances, screen.over()), (0, false));
        screen.words.insert(first, "hello there".to_owned());
        screen.understand();
        assert_eq!((screen.utterances, screen.over()), (2, true));
    }

    #[test]
    fn lines_break_at_words_and_between_chinese_characters() {
        assert_eq!(wrap("one two three", 8), ["one two ", "three"]);
        assert_eq!(wrap("太贵了我们", 4), ["太贵", "了我", "们"]);
        assert_eq!(wrap("", 8), [""]);
    }
}
