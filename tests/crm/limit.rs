//! How many requests are allowed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// At most so many requests within any such span.
pub(crate) struct Rolling {
    most: usize,
    span: Duration,
    taken: VecDeque<Instant>,
}

impl Rolling {
    pub(crate) fn new(most: usize, span: Duration) -> Self {
        Self {
            most,
            span,
            taken: VecDeque::new(),
        }
    }

    /// Takes one and tells how many are left, or after how long there is one again.
    pub(crate) fn take(&mut self) -> Result<usize, Duration> {
        let now = Instant::now();
        while let Some(first) = self.taken.front()
            && now.duration_since(*first) >= self.span
        {
            self.taken.pop_front();
        }
        if self.taken.len() >= self.most {
            let first = self.taken.front().copied().unwrap_or(now);
            return Err(self.span.saturating_sub(now.duration_since(first)));
        }
        self.taken.push_back(now);
        Ok(self.most - self.taken.len())
    }
}

/// At most so many requests until the count is set back.
pub(crate) struct Daily {
    pub(crate) most: u32,
    pub(crate) used: u32,
}

impl Daily {
    pub(crate) fn new(most: u32) -> Self {
        Self { most, used: 0 }
    }

    /// Takes one and tells whether there was one.
    pub(crate) fn take(&mut self) -> bool {
        let left = self.used < self.most;
        self.used += u32::from(left);
        left
    }

    pub(crate) fn left(&self) -> u32 {
        self.most - self.used
    }
}
