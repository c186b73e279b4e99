//! The insights model behind a queue: whoever asks, the passages that wait are read together.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use futures::future::try_join_all;
use tokio::sync::oneshot;

use super::reader::{Companions, Passage, Reader, Reading};
use crate::onnx::{self, ModelError};

/// At most so many passages in one run of the graph.
const BATCH: usize = 16;

/// Why a text was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The graph failed on it.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The thread that was to read it is gone.
    #[error("a thread of the insights model is gone")]
    Gone,
}

/// A passage that waits to be read.
struct Job {
    passage: Passage,
    reply: oneshot::Sender<Result<Reading, ModelError>>,
}

/// The model: a few threads, each with its own single-threaded session, and one queue. A thread
/// takes what has arrived: one passage when there is little to do, up to 16 under load.
pub struct Model {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Model {
    /// Opens the model of that name in the cache (`insights.onnx`, `tokenizer.json`,
    /// `labels.json`) for so many threads; 0 for one a core.
    ///
    /// # Errors
    /// A file is missing or broken, with the way out.
    pub fn open(cache: &Path, name: &str, workers: usize) -> Result<Self, ModelError> {
        let workers = match workers {
            0 => thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        let folder = onnx::model_dir(cache, name);
        let companions = Arc::new(Companions::open(&folder)?);
        let (jobs, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        let mut model = Self {
            jobs: Some(jobs),
            threads: Vec::new(),
        };
        for number in 0..workers {
            let reader = Reader::open(cache, &folder, Arc::clone(&companions))?;
            let queue = Arc::clone(&queue);
            let thread = thread::Builder::new()
                .name(format!("insights-{number}"))
                .spawn(move || work(reader, &queue))
                .map_err(ort::Error::wrap)?;
            model.threads.push(thread);
        }
        Ok(model)
    }

    /// Reads the texts, each alone, together with whatever else waits to be read: one reading a
    /// text, in their order.
    ///
    /// # Errors
    /// The graph failed on one of them, or the model is closing.
    pub async fn read(&self, texts: &[&str]) -> Result<Vec<Reading>, ReadError> {
        try_join_all(texts.iter().map(|text| self.read_one((*text).into()))).await
    }

    /// Reads one passage. An utterance without a word is neutral and costs nothing.
    ///
    /// # Errors
    /// As [`Model::read`].
    pub async fn read_one(&self, passage: Passage) -> Result<Reading, ReadError> {
        if !passage.text.chars().any(char::is_alphanumeric) {
            return Ok(Reading::of_nothing());
        }
        let (reply, reading) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or(ReadError::Gone)?;
        jobs.send(Job { passage, reply })
            .map_err(|_| ReadError::Gone)?;
        Ok(reading.await.map_err(|_| ReadError::Gone)??)
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        drop(self.jobs.take());
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so on standard error.
            let _ = thread.join();
        }
    }
}

fn work(mut reader: Reader, queue: &Mutex<Receiver<Job>>) {
    while let Some(mut jobs) = take(queue) {
        // Whoever asked may have gone.
        jobs.retain(|job| !job.reply.is_closed());
        if jobs.is_empty() {
            continue;
        }
        let passages: Vec<&Passage> = jobs.iter().map(|job| &job.passage).collect();
        match reader.read(&passages) {
            Ok(readings) => {
                for (job, reading) in jobs.into_iter().zip(readings) {
                    let _ = job.reply.send(Ok(reading));
                }
            }
            // One passage must not fail the others.
            Err(_) => {
                for job in jobs {
                    let alone = reader.read(&[&job.passage]).and_then(only);
                    let _ = job.reply.send(alone);
                }
            }
        }
    }
}

/// Waits for a passage, then takes what has arrived by now; none when the model is closing.
fn take(queue: &Mutex<Receiver<Job>>) -> Option<Vec<Job>> {
    let queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    let mut jobs = vec![queue.recv().ok()?];
    jobs.extend(queue.try_iter().take(BATCH - 1));
    Some(jobs)
}

fn only(readings: Vec<Reading>) -> Result<Reading, ModelError> {
    let reading = readings.into_iter().next();
    reading.ok_or_else(|| ort::Error::new("no reading for a text").into())
}
