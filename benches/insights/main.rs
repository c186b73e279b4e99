//! How fast the insights model is, beside the encoder of twelve layers that it descends from, in
//! one run: the same ids, one thread each, turn by turn.
//!
//! `cargo bench --bench insights`. `make eval` writes the encoder to the cache; without it the
//! model is measured alone.

use std::path::Path;
use std::time::{Duration, Instant};

use consumers::onnx;
use ndarray::Array2;
use ort::session::Session;
use ort::value::TensorRef;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const TOKENS: usize = 20;
const BATCH: usize = 16;
/// Runs before any is counted.
const WARM_UP: usize = 20;
const RUNS: usize = 300;
/// Ids of ordinary pieces.
const FIRST_ID: i64 = 1_000;

struct Contender {
    name: &'static str,
    session: Session,
    /// Only the insights model tells an utterance from the turn before.
    masks: &'static [&'static str],
    one: Vec<Duration>,
    batch: Vec<Duration>,
}

impl Contender {
    fn open(
        name: &'static str,
        cache: &Path,
        file: &Path,
        masks: &'static [&'static str],
    ) -> Result<Self> {
        let session = onnx::session(cache, file)?;
        Ok(Self {
            name,
            session,
            masks,
            one: Vec::new(),
            batch: Vec::new(),
        })
    }

    fn run(&mut self, rows: usize) -> Result<Duration> {
        let ids = Array2::from_shape_fn((rows, TOKENS), |(row, column)| {
            FIRST_ID + (row * TOKENS + column) as i64
        });
        let mask = Array2::<i64>::ones((rows, TOKENS));
        let mut inputs = ort::inputs! { "input_ids" => TensorRef::from_array_view(ids.view())? };
        for name in self.masks {
            inputs.push((
                (*name).into(),
                TensorRef::from_array_view(mask.view())?.into(),
            ));
        }
        let begun = Instant::now();
        self.session.run(inputs)?;
        Ok(begun.elapsed())
    }
}

fn main() -> Result<()> {
    let cache = onnx::cache_dir();
    let model = onnx::model_dir(&cache, "insights").join("insights.onnx");
    let masks: &[&str] = &["attention_mask", "utterance_mask"];
    let mut contenders = vec![Contender::open("insights model", &cache, &model, masks)?];
    let encoder = cache.join("training/encoder.onnx");
    if encoder.is_file() {
        let name = "encoder of 12 layers";
        contenders.push(Contender::open(name, &cache, &encoder, &masks[..1])?);
    } else {
        println!("the encoder is missing: `make eval` writes it");
    }
    for round in 0..WARM_UP + RUNS {
        for contender in &mut contenders {
            let (one, batch) = (contender.run(1)?, contender.run(BATCH)?);
            if round >= WARM_UP {
                contender.one.push(one);
                contender.batch.push(batch);
            }
        }
    }
    println!(
        "| one thread, {TOKENS} tokens | one utterance: p50 | p95 | in batches of {BATCH}: utterances/s |"
    );
    println!("|---|---|---|---|");
    for contender in &mut contenders {
        contender.one.sort();
        contender.batch.sort();
        let ms = |share: usize| contender.one[RUNS * share / 100].as_secs_f64() * 1_000.0;
        let second = BATCH as f64 / contender.batch[RUNS / 2].as_secs_f64();
        println!(
            "| {} | {:.1} ms | {:.1} ms | {second:.0} |",
            contender.name,
            ms(50),
            ms(95)
        );
    }
    Ok(())
}
