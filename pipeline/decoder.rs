//! From a record's bytes to its event, whatever schema wrote it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use schemas::{AnyEvent, Codec, CodecError, Event, Item};

use crate::dead_letter::RawRecord;
use crate::runner::work::panicked;
use crate::{Deps, Envelope, Poison, SchemaSource, StageError};

/// Decodes records; asks the schema registry, when there is one, for schemas that it does not
/// know. Cheap to clone.
#[derive(Clone)]
pub struct Decoder {
    codec: Arc<Codec>,
    registry: Option<Arc<dyn SchemaSource>>,
}

impl From<&Deps> for Decoder {
    fn from(deps: &Deps) -> Self {
        Self::new(Arc::clone(&deps.codec), deps.registry.clone())
    }
}

impl Decoder {
    /// A decoder that asks `registry` for what `codec` does not know.
    pub fn new(codec: Arc<Codec>, registry: Option<Arc<dyn SchemaSource>>) -> Self {
        Self { codec, registry }
    }

    /// The codec, to encode with.
    pub(crate) fn codec(&self) -> &Codec {
        &self.codec
    }

    /// The event in a record of a stage's topic. [`StageError::Transient`] when the registry does
    /// not answer; otherwise the record is poison.
    pub(crate) async fn event<T: Item>(&self, raw: &RawRecord) -> Result<Event<T>, StageError> {
        self.decode(|codec| codec.decode(raw.payload())).await
    }

    /// The event in a record of any topic of the product, whose name on the broker begins with
    /// `prefix`; errors as [`Decoder::event`].
    pub(crate) async fn any(
        &self,
        prefix: &str,
        raw: &RawRecord,
    ) -> Result<Envelope<AnyEvent>, StageError> {
        let name = raw.origin.topic.strip_prefix(prefix);
        let name = name.unwrap_or(&raw.origin.topic);
        let decode = |codec: &Codec| AnyEvent::decode(codec, name, raw.payload());
        Ok(Envelope {
            event: self.decode(decode).await?,
            origin: raw.origin.clone(),
            timestamp: raw.timestamp,
            trace: raw.trace(),
            rebuilding: false,
        })
    }

    async fn decode<T>(
        &self,
        decode: impl Fn(&Codec) -> Result<T, CodecError>,
    ) -> Result<T, StageError> {
        loop {
            let error = match safely(|| decode(&self.codec))? {
                Ok(event) => return Ok(event),
                Err(error) => error,
            };
            let (CodecError::UnknownSchema(id), Some(registry)) = (&error, &self.registry) else {
                return Err(Poison::from(error).into());
            };
            let schema = registry.schema(*id).await?;
            self.codec.learn(*id, &schema).map_err(Poison::from)?;
        }
    }
}

/// Decodes foreign bytes: should the decoder panic over them, they are poison.
fn safely<T>(decode: impl FnOnce() -> T) -> Result<T, Poison> {
    std::panic::catch_unwind(AssertUnwindSafe(decode))
        .map_err(|panic| Poison::new("decode", panicked(panic.as_ref())))
}
