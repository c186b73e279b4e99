//! What a stage does beyond its output topic: by this the runner knows which replayed records it
//! must not see.

use crate::replay::{Kind, Mark};

/// What a stage or sink does beyond its output topic. Every stage has to say it, and the runner
/// acts on it: a stage never sees a replayed record that could do harm in its hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effects {
    /// Nothing: it writes its output topic. What it makes of a replayed record carries the mark on.
    Topic,
    /// Rows of its own under the ids of events: the same event again changes nothing.
    Rows,
    /// Someone or something outside sees it: a screen, a CRM, a mail. It sees no replayed record,
    /// but those that it gave up itself and that are redriven for it with an operator's explicit
    /// word: what they were to do was never done.
    Outside,
}

impl Effects {
    /// Whether a stage of this name and with these effects may see a record with this mark on a
    /// live topic.
    pub fn admit(self, stage: &str, mark: &Mark) -> bool {
        let for_it = mark.stage.as_deref() == Some(stage);
        match (mark.kind, self) {
            (Kind::Rebuild | Kind::Shadow, _) => false,
            (Kind::Redrive, Self::Topic | Self::Rows) => for_it || mark.stage.is_none(),
            (Kind::Redrive, Self::Outside) => for_it && mark.effects,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(kind: Kind, stage: Option<&str>, effects: bool) -> Mark {
        Mark {
            id: "replay-1".into(),
            kind,
            stage: stage.map(str::to_owned),
            effects,
        }
    }

    #[test]
    fn no_live_stage_sees_a_shadow() {
        for effects in [Effects::Topic, Effects::Rows, Effects::Outside] {
            for stage in [None, Some("crm")] {
                assert!(!effects.admit("crm", &mark(Kind::Shadow, stage, true)));
            }
        }
    }

    #[test]
    fn a_record_redriven_for_a_stage_is_seen_by_no_other() {
        for effects in [Effects::Topic, Effects::Rows, Effects::Outside] {
            assert!(!effects.admit("coaching", &mark(Kind::Redrive, Some("insights"), true)));
        }
        assert!(Effects::Topic.admit("insights", &mark(Kind::Redrive, Some("insights"), false)));
        assert!(Effects::Rows.admit("reporting", &mark(Kind::Redrive, None, false)));
    }

    #[test]
    fn effects_outside_need_the_stage_and_the_operators_word() {
        let admitted =
            |stage, effects| Effects::Outside.admit("crm", &mark(Kind::Redrive, stage, effects));
        assert!(!admitted(None, false) && !admitted(None, true));
        assert!(!admitted(Some("crm"), false));
        assert!(admitted(Some("crm"), true));
    }
}
