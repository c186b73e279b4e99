//! Avro in the Confluent wire format: magic byte 0, schema id (u32, big-endian), Avro datum.
//! <https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format>

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;

use crate::topics::{self, Topic};
use crate::{Event, Item};

const MAGIC: u8 = 0;
const PREFIX: usize = 5;

/// Why bytes are no event, or an event no bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Too short for the wire format.
    #[error("record of {0} bytes is too short for the wire format")]
    TooShort(usize),
    /// The first byte is not the wire format's.
    #[error("record starts with byte {0:#04x} instead of the wire format's magic byte 0")]
    Magic(u8),
    /// The writer's schema is not known here: fetch it from the registry, then [`Codec::learn`] it.
    #[error("schema id {0} is unknown")]
    UnknownSchema(u32),
    /// No such row in the topic table.
    #[error("topic {0} is not in the topic table")]
    UnknownTopic(String),
    /// The datum does not fit its schema, or the writer's schema does not fit ours.
    #[error("avro: {0}")]
    Avro(String),
    /// Bytes are left over after the datum.
    #[error("{0} bytes are left over after the event")]
    Trailing(usize),
}

impl From<apache_avro::Error> for CodecError {
    fn from(error: apache_avro::Error) -> Self {
        // Some of these errors print a whole schema first and their reason last.
        const LONGEST: usize = 200;
        let text = error.to_string();
        let from = text
            .char_indices()
            .rev()
            .nth(LONGEST - 1)
            .map_or(0, |(at, _)| at);
        Self::Avro(text[from..].to_owned())
    }
}

type Writers = HashMap<&'static str, (u32, GenericDatumWriter<'static>)>;
type Readers = HashMap<(u32, &'static str), Arc<GenericDatumReader<'static>>>;

/// Encodes and decodes events. Knows the compiled-in schemas from the start; learns the ids and
/// schemas of a registry when one is configured. Cheap to share behind an [`Arc`].
pub struct Codec {
    writers: RwLock<Writers>,
    schemas: RwLock<HashMap<u32, &'static Schema>>,
    readers: RwLock<Readers>,
}

impl Codec {
    /// A codec that writes the ids of the topic table.
    ///
    /// # Errors
    /// When a compiled-in schema does not parse, which a test rules out.
    pub fn new() -> Result<Self, CodecError> {
        let codec = Self {
            writers: RwLock::default(),
            schemas: RwLock::default(),
            readers: RwLock::default(),
        };
        for topic in topics::ALL {
            codec.assign(topic, topic.schema_id)?;
        }
        Ok(codec)
    }

    /// Writes events of `topic` under `id` from now on: the id a schema registry gave to the
    /// compiled-in schema.
    ///
    /// # Errors
    /// When the compiled-in schema does not parse.
    pub fn assign(&self, topic: &Topic, id: u32) -> Result<(), CodecError> {
        let schema = compiled(topic)?;
        let writer = GenericDatumWriter::builder(schema).build()?;
        write(&self.writers).insert(topic.name, (id, writer));
        write(&self.schemas).insert(id, schema);
        write(&self.readers).clear();
        Ok(())
    }

    /// Takes in a writer's schema that a registry gave for `id`.
    ///
    /// # Errors
    /// When it is no Avro schema.
    pub fn learn(&self, id: u32, schema: &str) -> Result<(), CodecError> {
        // Readers borrow their schema for good; a process meets a handful of schemas in its life.
        let schema: &'static Schema = Box::leak(Box::new(Schema::parse_str(schema)?));
        write(&self.schemas).insert(id, schema);
        Ok(())
    }

    /// The record's bytes for an event.
    ///
    /// # Errors
    /// [`CodecError::Avro`] when the event does not fit its schema.
    pub fn encode<T: Item>(&self, event: &Event<T>) -> Result<Vec<u8>, CodecError> {
        let writers = read(&self.writers);
        let (id, writer) = writers
            .get(T::TOPIC.name)
            .ok_or_else(|| CodecError::UnknownTopic(T::TOPIC.name.to_owned()))?;
        let mut bytes = Vec::with_capacity(256);
        bytes.push(MAGIC);
        bytes.extend_from_slice(&id.to_be_bytes());
        writer.write_ser(&mut bytes, event)?;
        Ok(bytes)
    }

    /// The event in a record's bytes, whatever version of its schema wrote it.
    ///
    /// # Errors
    /// [`CodecError::UnknownSchema`] asks for [`Codec::learn`] and another try; every other error
    /// is final: the record is poison.
    pub fn decode<T: Item>(&self, bytes: &[u8]) -> Result<Event<T>, CodecError> {
        let reader = self.reader(schema_id(bytes)?, &T::TOPIC)?;
        let mut datum = &bytes[PREFIX..];
        let value = reader.read_value(&mut datum)?;
        if !datum.is_empty() {
            return Err(CodecError::Trailing(datum.len()));
        }
        Ok(apache_avro::from_value(&value)?)
    }

    fn reader(
        &self,
        id: u32,
        topic: &Topic,
    ) -> Result<Arc<GenericDatumReader<'static>>, CodecError> {
        if let Some(reader) = read(&self.readers).get(&(id, topic.name)) {
            return Ok(Arc::clone(reader));
        }
        let writer = *read(&self.schemas)
            .get(&id)
            .ok_or(CodecError::UnknownSchema(id))?;
        let ours = compiled(topic)?;
        let reader = Arc::new(
            GenericDatumReader::builder(writer)
                .reader_schema(ours)
                .build()?,
        );
        write(&self.readers).insert((id, topic.name), Arc::clone(&reader));
        Ok(reader)
    }
}

/// The id of the schema that wrote a record.
///
/// # Errors
/// When the bytes are not in the wire format.
pub fn schema_id(bytes: &[u8]) -> Result<u32, CodecError> {
    match bytes {
        [MAGIC, a, b, c, d, ..] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
        [first, _, _, _, _, ..] => Err(CodecError::Magic(*first)),
        short => Err(CodecError::TooShort(short.len())),
    }
}

/// The compiled-in schema of a topic, parsed once.
fn compiled(topic: &Topic) -> Result<&'static Schema, CodecError> {
    static PARSED: OnceLock<RwLock<HashMap<&'static str, &'static Schema>>> = OnceLock::new();
    let parsed = PARSED.get_or_init(RwLock::default);
    if let Some(schema) = read(parsed).get(topic.name) {
        return Ok(schema);
    }
    let schema: &'static Schema = Box::leak(Box::new(Schema::parse_str(topic.schema)?));
    write(parsed).insert(topic.name, schema);
    Ok(schema)
}

/// A panic elsewhere cannot leave these maps half-written: go on with them.
fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
