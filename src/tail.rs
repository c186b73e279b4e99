//! `coach tail`: prints a topic's events as JSON lines.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pipeline::reader::{From, ReadError, Reader, Replayed};
use pipeline::{CallKey, Decoder, Envelope, Field, SealError, Sealer};
use schemas::{AnyEvent, Sealed, Topic, topics};
use serde_json::{Value, json};

use crate::{shutdown, start};

/// Prints a topic's events as JSON lines, with where each record lies.
///
/// Personal content stays sealed unless --unseal opens it with the configured master key.
#[derive(clap::Args)]
pub struct Args {
    /// Topic, for example coaching.tips
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(topics::ALL.iter().map(|t| t.name)))]
    topic: String,
    /// Where to begin: beginning, end, a time (2026-11-23T09:00:00Z, or 15m for 15 minutes ago),
    /// or an offset
    #[arg(long, default_value = "end")]
    from: Start,
    /// Only this call's events
    #[arg(long)]
    call: Option<String>,
    /// Open sealed content; needs the master key and the database
    #[arg(long)]
    unseal: bool,
    /// Leave when everything that was there at the start has been printed
    #[arg(long)]
    until_end: bool,
}

#[derive(Clone)]
struct Start(From);

impl FromStr for Start {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ms = |time: std::time::SystemTime| {
            let since = time
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap_or_default();
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        };
        if let Ok(offset) = text.parse::<i64>() {
            return Ok(Self(From::Offset(offset)));
        }
        if let Ok(time) = humantime::parse_rfc3339_weak(text) {
            return Ok(Self(From::Time(ms(time))));
        }
        if let Ok(ago) = humantime::parse_duration(text) {
            let time = std::time::SystemTime::now().checked_sub(ago);
            return Ok(Self(From::Time(time.map_or(0, ms))));
        }
        match text {
            "beginning" => Ok(Self(From::Beginning)),
            "end" => Ok(Self(From::End)),
            _ => Err("expected beginning, end, a time, a time ago (15m) or an offset".to_owned()),
        }
    }
}

/// Prints until Ctrl-C, or until the end with `--until-end`.
///
/// # Errors
/// When Kafka refuses.
pub async fn run(args: Args, path: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = start::config(path)?;
    start::log(&config)?;
    let kafka = start::kafka(&config)?;
    let Some(topic) = Topic::named(&args.topic) else {
        anyhow::bail!("topic {} is not in the topic table", args.topic);
    };
    let sealer = match args.unseal {
        true => Some(start::sealer(&config).await?.0),
        false => None,
    };
    let cancel = shutdown::on_signal()?;
    let (codec, registry) = start::codec(&config).await?;
    let decoder = Decoder::new(codec, registry);
    let topics = [*topic];
    let mut reader = tokio::select! {
        reader = Reader::open(&kafka, decoder, &topics, args.from.0.clone(), Replayed::Read) => reader?,
        () = cancel.cancelled() => return Ok(ExitCode::SUCCESS),
    };
    loop {
        if args.until_end && reader.caught_up() {
            return Ok(ExitCode::SUCCESS);
        }
        let next = tokio::select! {
            next = reader.next() => next,
            () = cancel.cancelled() => return Ok(ExitCode::SUCCESS),
            () = tokio::time::sleep(std::time::Duration::from_millis(100)), if args.until_end => continue,
        };
        let envelope = match next {
            Ok(envelope) => envelope,
            Err(error @ ReadError::Poison { .. }) => {
                eprintln!("coach: {error}");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if args
            .call
            .as_ref()
            .is_some_and(|call| *call != envelope.event.head().call_id)
        {
            continue;
        }
        let line = line(&envelope, sealer.as_ref()).await?;
        if writeln!(std::io::stdout(), "{line}").is_err() {
            // Whoever read us has gone.
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// One event as JSON, with where its record lies.
async fn line(envelope: &Envelope<AnyEvent>, sealer: Option<&Sealer>) -> anyhow::Result<Value> {
    let mut event = serde_json::to_value(&envelope.event)?;
    let key = match sealer {
        None => None,
        Some(sealer) => match sealer.key(&envelope.event.head().call_id).await {
            Ok(key) => Some(key),
            Err(SealError::NoKey(_)) => None,
            Err(error) => return Err(error.into()),
        },
    };
    for (place, field) in [
        ("/utterance/text", Field::TEXT),
        ("/started/customer", Field::CUSTOMER),
        ("/chunk/audio", Field::AUDIO),
    ] {
        if let Some(value) = event.pointer_mut(place)
            && value.is_array()
        {
            *value = show(value, key.as_ref(), field)?;
        }
    }
    if let Some(object) = event.as_object_mut() {
        object.retain(|_, value| !value.is_null());
    }
    let origin = &envelope.origin;
    Ok(json!({
        "topic": origin.topic,
        "partition": origin.partition,
        "offset": origin.offset,
        "event": event,
    }))
}

fn show(value: &Value, key: Option<&CallKey>, field: Field) -> anyhow::Result<Value> {
    let sealed = Sealed(serde_json::from_value(value.clone())?);
    let Some(key) = key else {
        return Ok(json!({ "sealed_bytes": sealed.0.len() }));
    };
    if field == Field::AUDIO {
        return Ok(STANDARD.encode(&*key.open(field, &sealed)?).into());
    }
    Ok(key.open_text(field, &sealed)?.into())
}
