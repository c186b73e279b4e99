//! Where a rep's screen stands in the story of a call: the id of every server-sent event, and what
//! a browser sends back as `Last-Event-ID`.
//!
//! A call lies on one partition of each topic, so four offsets say exactly what has been seen:
//! `<call id>~<transcript>.<insights>.<tips>.<feedback>`, `-` where nothing was seen yet. Topics
//! reach two gateways in different order, but each topic's own order is the same everywhere; so a
//! screen may resume at any gateway without losing or repeating an event.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A topic the gateway reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `calls.transcript`.
    Transcript,
    /// `calls.insights`.
    Insights,
    /// `coaching.tips`.
    Tips,
    /// `coaching.feedback`.
    Feedback,
}

const SOURCES: usize = 4;

/// Offsets seen of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The call.
    pub call_id: Arc<str>,
    seen: [Option<i64>; SOURCES],
}

impl Position {
    /// Before the first event of a call.
    pub fn start(call_id: Arc<str>) -> Self {
        Self {
            call_id,
            seen: [None; SOURCES],
        }
    }

    /// Whether the record at `offset` of `source` has been seen.
    pub fn covers(&self, source: Source, offset: i64) -> bool {
        self.seen[source as usize].is_some_and(|seen| offset <= seen)
    }

    /// Marks everything up to `offset` of `source` as seen.
    pub fn advance(&mut self, source: Source, offset: i64) {
        let seen = &mut self.seen[source as usize];
        *seen = Some(seen.map_or(offset, |seen| seen.max(offset)));
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.call_id)?;
        for (index, seen) in self.seen.iter().enumerate() {
            f.write_str(if index == 0 { "~" } else { "." })?;
            match seen {
                Some(offset) => write!(f, "{offset}")?,
                None => f.write_str("-")?,
            }
        }
        Ok(())
    }
}

/// The text is no position.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a position: expected <call id>~<offset>.<offset>.<offset>.<offset>")]
pub struct BadPosition;

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (call_id, offsets) = text.rsplit_once('~').ok_or(BadPosition)?;
        let mut position = Self::start(call_id.into());
        let mut offsets = offsets.split('.');
        for seen in &mut position.seen {
            *seen = match offsets.next().ok_or(BadPosition)? {
                "-" => None,
                offset => Some(offset.parse().map_err(|_| BadPosition)?),
            };
        }
        match offsets.next() {
            None => Ok(position),
            Some(_) => Err(BadPosition),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back_as_it_was_written() {
        let mut position = Position::start("acme~7".into());
        assert_eq!(position.to_string(), "acme~7~-.-.-.-");
        position.advance(Source::Transcript, 12);
        position.advance(Source::Tips, 0);
        assert_eq!(position.to_string(), "acme~7~12.-.0.-");
        assert_eq!(position.to_string().parse(), Ok(position));
    }

    #[test]
    fn a_position_covers_what_came_before_it_on_the_same_topic_only() {
        let mut position = Position::start("c".into());
        position.advance(Source::Insights, 5);
        position.advance(Source::Insights, 3);
        assert!(position.covers(Source::Insights, 5));
        assert!(!position.covers(Source::Insights, 6));
        assert!(!position.covers(Source::Tips, 0));
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "c", "c~1.2.3", "c~1.2.3.4.5", "c~1.2.x.4", "1.2.3.4"] {
            assert_eq!(text.parse::<Position>(), Err(BadPosition), "{text:?}");
        }
    }
}
