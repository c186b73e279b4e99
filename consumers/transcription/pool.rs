//! Threads that each own a worker (a model's sessions) and take jobs from one queue.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

type Job<W> = Box<dyn FnOnce(&mut W) + Send>;

/// A fixed number of threads, each with its own `W`. The threads end when the pool is dropped.
pub struct Pool<W> {
    jobs: Sender<Job<W>>,
}

/// The job did not come back: it panicked.
#[derive(Debug, thiserror::Error)]
#[error("the job panicked")]
pub struct JobLost;

impl<W: Send + 'static> Pool<W> {
    /// Starts a thread for each worker.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn start(name: &str, workers: Vec<W>) -> std::io::Result<Self> {
        let (jobs, queue) = channel::<Job<W>>();
        let queue = Arc::new(Mutex::new(queue));
        for (number, worker) in workers.into_iter().enumerate() {
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || work(worker, &queue))?;
        }
        Ok(Self { jobs })
    }

    /// Runs the job on the next free worker, in the order of the calls to this.
    ///
    /// # Errors
    /// The job panicked; the worker goes on with the next.
    pub async fn run<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut W) -> R + Send + 'static,
    ) -> Result<R, JobLost> {
        let (reply, result) = oneshot::channel();
        let job: Job<W> = Box::new(move |worker| {
            // Whoever asked may have gone; then nobody needs the answer.
            let _ = reply.send(job(worker));
        });
        self.jobs.send(job).map_err(|_| JobLost)?;
        result.await.map_err(|_| JobLost)
    }
}

fn work<W>(mut worker: W, queue: &Mutex<Receiver<Job<W>>>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        if catch_unwind(AssertUnwindSafe(|| job(&mut worker))).is_err() {
            tracing::error!("a worker's job panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[tokio::test]
    async fn jobs_run_side_by_side_on_their_own_workers() {
        let pool = Pool::start("test", vec![1, 2]).unwrap();
        let barrier = Arc::new(Barrier::new(2));
        let meet = |barrier: Arc<Barrier>| {
            move |worker: &mut i32| {
                barrier.wait();
                *worker
            }
        };
        let (a, b) = tokio::join!(
            pool.run(meet(Arc::clone(&barrier))),
            pool.run(meet(Arc::clone(&barrier)))
        );
        assert_eq!(a.unwrap() + b.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_job_that_panics_is_reported_and_the_worker_goes_on() {
        let pool = Pool::start("test", vec![7]).unwrap();
        let lost = pool
            .run(|_: &mut i32| -> i32 { panic!("on purpose") })
            .await;
        assert!(lost.is_err());
        assert_eq!(pool.run(|worker| *worker).await.unwrap(), 7);
    }
}
