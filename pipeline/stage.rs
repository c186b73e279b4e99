//! The contract between a stage and its runner.

use std::future::Future;

use schemas::{AnyEvent, Item, Topic};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::envelope::Input;
use crate::{Deps, Effects, Envelope, Outbox, StageError};

/// One consumer of the chain: reads one topic, remembers something of each open call, writes one
/// topic. The runner gives each call's events in order, several calls side by side, and commits
/// input and output in one Kafka transaction.
///
/// Decisions depend on event time and content, never on the wall clock: the same log always
/// gives the same events.
///
/// A stage has to say what its effects are, or it does not compile:
///
/// ```compile_fail,E0046
/// struct Mute;
/// impl pipeline::Stage for Mute {
///     const NAME: &'static str = "mute";
///     type In = schemas::Tip;
///     type Out = schemas::Tip;
///     type Settings = ();
///     type Call = ();
///     async fn open((): (), _: &pipeline::Deps) -> anyhow::Result<Self> {
///         Ok(Self)
///     }
///     async fn process(
///         &self,
///         (): &mut (),
///         _: &pipeline::envelope::Input<schemas::Tip>,
///         _: &mut pipeline::Outbox<schemas::Tip>,
///     ) -> Result<(), pipeline::StageError> {
///         Ok(())
///     }
/// }
/// ```
///
/// The same with the one line that was missing:
///
/// ```
/// struct Plain;
/// impl pipeline::Stage for Plain {
///     const NAME: &'static str = "plain";
///     const EFFECTS: pipeline::Effects = pipeline::Effects::Topic;
///     type In = schemas::Tip;
///     type Out = schemas::Tip;
///     type Settings = ();
///     type Call = ();
///     async fn open((): (), _: &pipeline::Deps) -> anyhow::Result<Self> {
///         Ok(Self)
///     }
///     async fn process(
///         &self,
///         (): &mut (),
///         _: &pipeline::envelope::Input<schemas::Tip>,
///         _: &mut pipeline::Outbox<schemas::Tip>,
///     ) -> Result<(), pipeline::StageError> {
///         Ok(())
///     }
/// }
/// ```
pub trait Stage: Sized + Send + Sync + 'static {
    /// Folder, config section, consumer group and metric label.
    const NAME: &'static str;
    /// What it does beyond its output topic: by this the runner keeps replayed records from it.
    const EFFECTS: Effects;
    /// Item of the topic it reads.
    type In: Item;
    /// Item of the topic it writes.
    type Out: Item;
    /// Its config section.
    type Settings: DeserializeOwned + Serialize + Default + Send;
    /// What it remembers of one call, from `Started` to `Ended`; rebuilt from the log after a
    /// restart.
    type Call: Default + Send + 'static;

    /// Opens models, connections, playbooks.
    fn open(
        settings: Self::Settings,
        deps: &Deps,
    ) -> impl Future<Output = anyhow::Result<Self>> + Send;

    /// Takes one event. On an error, `call` is as it was before (the runner keeps no copy: change
    /// it only when nothing can fail any more), and nothing in `out` is written.
    fn process(
        &self,
        call: &mut Self::Call,
        input: &Input<Self::In>,
        out: &mut Outbox<Self::Out>,
    ) -> impl Future<Output = Result<(), StageError>> + Send;
}

/// The end of a chain: reads several topics and writes beyond Kafka, idempotent on event ids. The
/// runner commits offsets after `write` has returned. Like a stage it has to say what its effects
/// are.
pub trait Sink: Sized + Send + Sync + 'static {
    /// Folder, config section, consumer group and metric label.
    const NAME: &'static str;
    /// What it does beyond Kafka: by this the runner keeps replayed records from it.
    const EFFECTS: Effects;
    /// What it reads.
    const TOPICS: &'static [Topic];

    /// Writes a batch, all of it or nothing. On [`StageError::Poison`] the runner writes the
    /// batch's events one by one, to find the poison and dead-letter only that.
    fn write(
        &self,
        batch: &[Envelope<AnyEvent>],
    ) -> impl Future<Output = Result<(), StageError>> + Send;
}

/// A sink that needs no more than its settings and what every stage may use.
pub trait OpenSink: Sink {
    /// Its config section.
    type Settings: DeserializeOwned + Serialize + Default + Send;

    /// Opens connections and brings the schema up to date.
    fn open(
        settings: Self::Settings,
        deps: &Deps,
    ) -> impl Future<Output = anyhow::Result<Self>> + Send;
}
