//! What every stage may use.

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use schemas::Codec;

use crate::telemetry::Health;
use crate::{Sealer, StageError};

/// Where the schema of an id is asked for that the codec does not know: a schema registry.
pub trait SchemaSource: Send + Sync + 'static {
    /// The schema with this id, as JSON. [`StageError::Transient`] when the registry does not
    /// answer, [`StageError::Poison`] when it knows no such id.
    fn schema(&self, id: u32) -> BoxFuture<'_, Result<String, StageError>>;
}

/// What every stage may use.
#[derive(Clone)]
pub struct Deps {
    /// Avro codec.
    pub codec: Arc<Codec>,
    /// The schema registry, when one is configured.
    pub registry: Option<Arc<dyn SchemaSource>>,
    /// Seals and opens personal content.
    pub sealer: Sealer,
    /// Where models and the ONNX Runtime lie.
    pub cache: PathBuf,
    /// Whether the process is alive and ready.
    pub health: Health,
    /// Where the process's metrics are registered.
    pub metrics: prometheus::Registry,
    /// The database of results, data keys and the ledger.
    pub database: sqlx::AnyPool,
}
