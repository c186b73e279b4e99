//! What every stage may use.

use std::path::PathBuf;
use std::sync::Arc;

use schemas::Codec;

use crate::Sealer;

/// What every stage may use.
#[derive(Clone)]
pub struct Deps {
    /// Avro codec.
    pub codec: Arc<Codec>,
    /// Seals and opens personal content.
    pub sealer: Sealer,
    /// Where models and the ONNX Runtime lie.
    pub cache: PathBuf,
    /// Where the process's metrics are registered.
    pub metrics: prometheus::Registry,
    /// The database of results, data keys and the ledger.
    pub database: sqlx::AnyPool,
}
