//! The faults of a run and when they strike, drawn from its seed. Pure: the same seed gives the
//! same timeline.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

/// Stages of the text path that run as processes, in the order in which a call passes them.
pub const STAGES: [&str; 4] = ["insights", "coaching", "reporting", "gateway"];
/// Instances of each.
pub const INSTANCES: usize = 2;
const BROKERS: usize = 3;

/// One process: a stage's instance, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    pub stage: &'static str,
    pub instance: usize,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.stage, self.instance + 1)
    }
}

/// What gets no further when a process is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Both,
    /// What the process sends is lost, what it is sent arrives.
    Up,
    /// What the process is sent is lost, what it sends arrives.
    Down,
}

/// What is done to the chain. Brokers are numbered from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL; started again at once.
    Kill(Slot),
    /// SIGTERM; started again at once.
    Terminate(Slot),
    /// SIGSTOP, later SIGCONT: a zombie that comes back after its partitions were given away.
    Freeze(Slot, Duration),
    /// Taken away in good order, later added again.
    Remove(Slot, Duration),
    /// A third instance for a while.
    Add(&'static str, Duration),
    /// A broker killed and later started again.
    KillBroker(usize, Duration),
    /// The broker that coordinates a stage's transactions, likewise.
    KillCoordinator(Slot, Duration),
    /// Each broker in turn stopped and started.
    RollBrokers,
    /// A process cut off from all brokers.
    CutBrokers(Slot, Cut, Duration),
    /// A process cut off from the database.
    CutDatabase(Slot, Cut, Duration),
    /// The database killed and later started again.
    KillDatabase(Duration),
    /// The database stopped in good order and started.
    RestartDatabase,
    /// The database answers so much later.
    SlowDatabase(Duration, Duration),
    /// Coaching goes on with a new version of the playbook, one instance after the other.
    NewPlaybook,
}

impl Fault {
    /// Its row in the table.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kill(slot) if slot.stage == "gateway" => "gateway killed",
            Self::Kill(_) => "stage killed",
            Self::Terminate(_) => "stage terminated",
            Self::Freeze(..) => "stage frozen (zombie)",
            Self::Remove(..) => "instance removed",
            Self::Add(..) => "instance added",
            Self::KillBroker(..) => "broker killed",
            Self::KillCoordinator(..) => "transaction coordinator killed",
            Self::RollBrokers => "brokers restarted in turn",
            Self::CutBrokers(_, Cut::Both, _) => "stage cut from brokers",
            Self::CutBrokers(..) => "stage cut from brokers, one way",
            Self::CutDatabase(_, Cut::Both, _) => "stage cut from database",
            Self::CutDatabase(..) => "stage cut from database, one way",
            Self::KillDatabase(_) => "database killed",
            Self::RestartDatabase => "database restarted",
            Self::SlowDatabase(..) => "database slow",
            Self::NewPlaybook => "new playbook",
        }
    }

    /// Which goal for recovery holds: that of a broker, or of a stage.
    pub fn is_of_broker(&self) -> bool {
        matches!(
            self,
            Self::KillBroker(..) | Self::KillCoordinator(..) | Self::RollBrokers
        )
    }

    /// Whether it is the database itself that is struck.
    pub fn is_of_database(&self) -> bool {
        matches!(
            self,
            Self::KillDatabase(_) | Self::RestartDatabase | Self::SlowDatabase(..)
        )
    }

    fn slot(&self) -> Option<Slot> {
        match self {
            Self::Kill(slot)
            | Self::Terminate(slot)
            | Self::Freeze(slot, _)
            | Self::Remove(slot, _)
            | Self::CutBrokers(slot, ..)
            | Self::CutDatabase(slot, ..) => Some(*slot),
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Self::Kill(slot) | Self::Terminate(slot) => write!(f, "{name}: {slot}"),
            Self::Freeze(slot, time) | Self::Remove(slot, time) => {
                write!(f, "{name}: {slot} for {time:.1?}")
            }
            Self::CutBrokers(slot, cut, time) | Self::CutDatabase(slot, cut, time) => {
                write!(f, "{name}: {slot}, {cut:?}, for {time:.1?}")
            }
            Self::Add(stage, time) => write!(f, "{name}: {stage} for {time:.1?}"),
            Self::KillBroker(broker, time) => write!(f, "{name}: {broker} for {time:.1?}"),
            Self::KillCoordinator(slot, time) => write!(f, "{name}: of {slot}, for {time:.1?}"),
            Self::KillDatabase(time) => write!(f, "{name} for {time:.1?}"),
            Self::SlowDatabase(delay, time) => write!(f, "{name} by {delay:.1?} for {time:.1?}"),
            Self::RollBrokers | Self::RestartDatabase | Self::NewPlaybook => f.write_str(name),
        }
    }
}

/// A fault and when it strikes, from the beginning of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    pub at: Duration,
    pub fault: Fault,
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:6.1} s  {}", self.at.as_secs_f64(), self.fault)
    }
}

/// The faults of one run, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline(pub Vec<Strike>);

impl Timeline {
    /// Draws the faults of a run whose load lasts for `within`: one of the brokers, one of the
    /// database, one of the roll-outs, and the rest of single processes. A process is struck once,
    /// and of two instances of a stage only one, so that recovery can be told.
    pub fn draw(seed: u64, within: Duration) -> Self {
        // Another stream than the load's.
        let mut rng = StdRng::seed_from_u64(seed ^ 0x7fa0_17ed);
        let mut stages = STAGES;
        stages.shuffle(&mut rng);
        let mut faults: Vec<Fault> = stages
            .into_iter()
            .map(|stage| of_process(&mut rng, stage, within))
            .collect();
        faults.push(of_brokers(&mut rng));
        faults.push(of_database(&mut rng));
        let struck: Vec<Slot> = faults.iter().filter_map(Fault::slot).collect();
        faults.push(of_roll_out(&mut rng, &struck));
        faults.shuffle(&mut rng);
        let (first, last) = (within.mul_f64(0.08), within.mul_f64(0.85));
        let gap = (last - first) / u32::try_from(faults.len()).unwrap_or(1);
        let mut strikes: Vec<Strike> = faults
            .into_iter()
            .enumerate()
            .map(|(index, fault)| Strike {
                at: first + gap * u32::try_from(index).unwrap_or(0) + gap.mul_f64(rng.random()),
                fault,
            })
            .collect();
        // A zombie should come back while there is still something to write.
        for strike in &mut strikes {
            if let Fault::Freeze(_, time) = strike.fault {
                strike.at = strike.at.min(within.saturating_sub(time)).max(first);
            }
        }
        strikes.sort_by_key(|strike| strike.at);
        Self(strikes)
    }
}

fn seconds(rng: &mut StdRng, from: f64, to: f64) -> Duration {
    Duration::from_secs_f64(rng.random_range(from..to))
}

fn of_process(rng: &mut StdRng, stage: &'static str, within: Duration) -> Fault {
    let slot = Slot {
        stage,
        instance: rng.random_range(0..INSTANCES),
    };
    if stage == "gateway" {
        return Fault::Kill(slot);
    }
    let cut = *[Cut::Both, Cut::Up, Cut::Down]
        .choose(rng)
        .unwrap_or(&Cut::Both);
    match rng.random_range(0..6) {
        0 | 1 => Fault::Kill(slot),
        2 => Fault::Terminate(slot),
        3 => Fault::Freeze(
            slot,
            seconds(rng, 5.0, within.as_secs_f64().clamp(6.0, 45.0)),
        ),
        4 => Fault::CutBrokers(slot, cut, seconds(rng, 4.0, 20.0)),
        _ => Fault::CutDatabase(slot, cut, seconds(rng, 4.0, 15.0)),
    }
}

fn of_brokers(rng: &mut StdRng) -> Fault {
    let slot = Slot {
        stage: ["insights", "coaching"].choose(rng).unwrap_or(&STAGES[0]),
        instance: rng.random_range(0..INSTANCES),
    };
    match rng.random_range(0..3) {
        0 => Fault::KillBroker(rng.random_range(1..=BROKERS), seconds(rng, 2.0, 12.0)),
        1 => Fault::KillCoordinator(slot, seconds(rng, 2.0, 12.0)),
        _ => Fault::RollBrokers,
    }
}

fn of_database(rng: &mut StdRng) -> Fault {
    match rng.random_range(0..3) {
        0 => Fault::KillDatabase(seconds(rng, 1.0, 8.0)),
        1 => Fault::RestartDatabase,
        _ => Fault::SlowDatabase(seconds(rng, 0.1, 0.4), seconds(rng, 3.0, 10.0)),
    }
}

/// Roll-outs leave alone what is struck otherwise.
fn of_roll_out(rng: &mut StdRng, struck: &[Slot]) -> Fault {
    let stage = *STAGES[..3].choose(rng).unwrap_or(&STAGES[0]);
    let spared = (0..INSTANCES)
        .map(|instance| Slot { stage, instance })
        .find(|slot| !struck.contains(slot));
    match (rng.random_range(0..3), spared) {
        (0, Some(slot)) => Fault::Remove(slot, seconds(rng, 4.0, 12.0)),
        (1, _) => Fault::Add(stage, seconds(rng, 5.0, 15.0)),
        _ => Fault::NewPlaybook,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(45);

    #[test]
    fn the_same_seed_gives_the_same_timeline_and_another_seed_another() {
        assert_eq!(Timeline::draw(7, WITHIN), Timeline::draw(7, WITHIN));
        assert_ne!(Timeline::draw(7, WITHIN), Timeline::draw(8, WITHIN));
    }

    #[test]
    fn every_kind_of_fault_is_drawn_within_some_tens_of_seeds() {
        let drawn = (0..60).flat_map(|seed| Timeline::draw(seed, WITHIN).0);
        let names: HashSet<&str> = drawn.map(|strike| strike.fault.name()).collect();
        assert_eq!(names.len(), 17, "{names:?}");
    }

    #[test]
    fn faults_strike_under_load_and_of_two_instances_one_at_most() {
        for seed in 0..200 {
            let timeline = Timeline::draw(seed, WITHIN).0;
            assert!(timeline.is_sorted_by_key(|strike| strike.at));
            let mut stages = HashSet::new();
            for Strike { at, fault } in timeline {
                assert!(at < WITHIN);
                if let Some(slot) = fault.slot()
                    && !matches!(fault, Fault::Remove(..))
                {
                    assert!(stages.insert(slot.stage), "{fault}");
                }
                if let Fault::Freeze(_, time) = fault {
                    assert!((5.0..45.0).contains(&time.as_secs_f64()));
                }
            }
        }
    }
}
