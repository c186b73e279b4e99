//! Does to the chain what the timeline says.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::time::{Instant, sleep};

use crate::crew::{Crew, Journal, name};
use crate::stand::{BROKERS, Scene, Stand};
use crate::timeline::{Cut, Fault, STAGES, Slot};

/// By then a stage should be back.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// A fault that struck, and from when on recovery counts.
#[derive(Clone, Debug)]
pub struct Struck {
    pub fault: Fault,
    /// From when on, once for each broker that went away.
    pub since: Vec<Instant>,
    /// From its beginning to its end.
    pub span: (Instant, Instant),
    /// The stages that had to recover; none for softphones.
    pub stages: Vec<&'static str>,
}

impl Struck {
    /// Whether this one may have delayed the recovery from another, between two times: it struck
    /// what all stages need, or a stage of the other.
    pub fn hampers(&self, other: &Self, from: Instant, to: Instant) -> bool {
        let shared = self.fault.is_of_broker() || self.fault.is_of_database();
        let same = self.stages.iter().any(|stage| other.stages.contains(stage));
        // What it struck may have been just about to be back.
        let until = self
            .since
            .iter()
            .max()
            .map_or(self.span.1, |since| *since + BACK_WITHIN);
        (shared || same) && self.span.0 <= to && until >= from
    }
}

/// Injects one fault and sees it to its end.
pub async fn strike(
    stand: &Stand,
    scene: &Scene,
    crew: &Crew,
    journal: &Journal,
    fault: Fault,
) -> Struck {
    journal.note(&fault.to_string());
    let struck = Instant::now();
    let mut since = vec![struck];
    match fault {
        Fault::Kill(slot) => crew.kill(slot),
        Fault::Terminate(slot) => crew.terminate(slot),
        Fault::Freeze(slot, time) => {
            crew.freeze(slot);
            sleep(time).await;
            crew.thaw(slot);
        }
        Fault::Remove(slot, time) => {
            crew.remove(slot);
            sleep(time).await;
            crew.restore(slot);
        }
        Fault::Add(stage, time) => crew.add(stand, scene, stage, time).await,
        Fault::KillBroker(broker, time) => kill_broker(stand, broker, time).await,
        Fault::KillCoordinator(slot, time) => {
            let broker = coordinator(scene, slot).await;
            journal.note(&format!("broker {broker} coordinates"));
            kill_broker(stand, broker, time).await;
        }
        Fault::RollBrokers => {
            since.clear();
            for broker in 1..=BROKERS {
                since.push(Instant::now());
                stand.kafka.stop_broker(broker).await;
                stand.kafka.start_broker(broker).await;
            }
        }
        Fault::CutBrokers(slot, cut, time) => {
            stand.cut_brokers(slot, Some(cut));
            sleep(time).await;
            stand.cut_brokers(slot, None);
        }
        Fault::CutDatabase(slot, cut, time) => {
            stand.cut_database(slot, Some(cut));
            sleep(time).await;
            stand.cut_database(slot, None);
            since = vec![Instant::now()];
        }
        Fault::KillDatabase(time) => {
            stand.postgres.kill().await;
            sleep(time).await;
            stand.postgres.restart().await;
            since = vec![Instant::now()];
        }
        Fault::RestartDatabase => {
            stand.postgres.stop().await;
            stand.postgres.restart().await;
            since = vec![Instant::now()];
        }
        Fault::SlowDatabase(delay, time) => {
            stand.slow_database(delay);
            sleep(time).await;
            stand.slow_database(Duration::ZERO);
        }
        Fault::NewPlaybook => crew.new_playbook(stand).await,
    }
    journal.note(&format!("over: {fault}"));
    Struck {
        fault,
        since,
        span: (struck, Instant::now()),
        stages: affected(&fault),
    }
}

fn affected(fault: &Fault) -> Vec<&'static str> {
    match fault {
        Fault::Kill(slot)
        | Fault::Terminate(slot)
        | Fault::Freeze(slot, _)
        | Fault::Remove(slot, _)
        | Fault::CutBrokers(slot, ..)
        | Fault::CutDatabase(slot, ..) => {
            let stages = STAGES[..3].iter().copied();
            stages.filter(|stage| *stage == slot.stage).collect()
        }
        Fault::Add(stage, _) => vec![stage],
        Fault::KillBroker(..) | Fault::KillCoordinator(..) | Fault::RollBrokers => {
            STAGES[..3].to_vec()
        }
        Fault::KillDatabase(_) | Fault::RestartDatabase | Fault::SlowDatabase(..) => {
            vec!["reporting"]
        }
        Fault::NewPlaybook => vec!["coaching"],
    }
}

async fn kill_broker(stand: &Stand, broker: usize, time: Duration) {
    stand.kafka.kill_broker(broker).await;
    sleep(time).await;
    stand.kafka.start_broker(broker).await;
}

/// The broker that coordinates the transactions of a process with a name: it leads the partition
/// of `__transaction_state` that the transactional id falls on.
async fn coordinator(scene: &Scene, slot: Slot) -> usize {
    let id = format!("{}-{}", scene.kafka.group(slot.stage), name(slot));
    let consumer: BaseConsumer = scene.kafka.client(&[]).create().unwrap();
    let asking = tokio::task::spawn_blocking(move || {
        let topic = "__transaction_state";
        let metadata = consumer
            .fetch_metadata(Some(topic), Duration::from_secs(20))
            .unwrap();
        let partitions = metadata.topics()[0].partitions();
        let place = java_hash(&id).unsigned_abs() as usize % partitions.len();
        let partition = partitions.iter().find(|p| p.id() as usize == place);
        partition.unwrap().leader() as usize
    });
    asking.await.unwrap()
}

/// What Java's `String.hashCode` gives.
fn java_hash(text: &str) -> i32 {
    let units = text.encode_utf16();
    units.fold(0, |hash: i32, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_hashed_as_java_does_it() {
        assert_eq!(java_hash("hello"), 99_162_322);
        assert_eq!(java_hash("run-1234.insights-insights-1"), {
            "run-1234.insights-insights-1"
                .bytes()
                .fold(0_i32, |h, b| h.wrapping_mul(31).wrapping_add(i32::from(b)))
        });
    }

    #[test]
    fn what_strikes_the_same_stage_or_what_all_need_hampers_a_recovery() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let slot = |stage| Slot { stage, instance: 0 };
        let struck = |fault, from| Struck {
            fault,
            since: vec![at(from)],
            span: (at(from), at(from + 1)),
            stages: affected(&fault),
        };
        let one = struck(Fault::Kill(slot("insights")), 20);
        let hampered = |fault, from| struck(fault, from).hampers(&one, at(20), at(25));
        assert!(hampered(Fault::RestartDatabase, 22));
        assert!(hampered(Fault::Terminate(slot("insights")), 11));
        assert!(!hampered(Fault::Terminate(slot("insights")), 9));
        assert!(!hampered(Fault::RestartDatabase, 26));
        assert!(!hampered(Fault::Terminate(slot("coaching")), 22));
    }

    #[test]
    fn a_cut_of_a_gateway_is_for_softphones_to_recover_from() {
        let slot = Slot {
            stage: "gateway",
            instance: 0,
        };
        assert!(affected(&Fault::Kill(slot)).is_empty());
        let cut = Fault::CutBrokers(
            Slot {
                stage: "coaching",
                ..slot
            },
            Cut::Up,
            Duration::ZERO,
        );
        assert_eq!(affected(&cut), ["coaching"]);
    }
}
