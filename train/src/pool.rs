//! The threads of one training: started by [`crate::fit()`], named, ended with it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rayon::ThreadPool;

use crate::error::TrainError;
use crate::fit::Threads;

/// candle's backward pass recurses over the graph; our graphs are shallow, this is room to spare.
const STACK_BYTES: usize = 16 << 20;
const THREADS_MAX: usize = 512;

pub(crate) struct Pool(ThreadPool);

impl Pool {
    pub(crate) fn start(threads: &Threads) -> Result<Self, TrainError> {
        let failed = |reason: String| TrainError::Threads { threads: threads.count, reason };
        if !(1..=THREADS_MAX).contains(&threads.count) {
            return Err(failed(format!("the number must be between 1 and {THREADS_MAX}")));
        }
        let on_start = threads.on_start.clone();
        let started = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.count)
            .thread_name(|index| format!("train-{index}"))
            .stack_size(STACK_BYTES)
            .start_handler(move |_| {
                // A panic here would abort the process; a wish about priority is not worth that.
                let _ = on_start.as_ref().map(|run| catch_unwind(AssertUnwindSafe(|| run())));
            })
            .build();
        started.map(Pool).map_err(|error| failed(error.to_string()))
    }

    /// Runs `work` on one of the threads; rayon inside it uses these threads and no others. A panic comes through.
    pub(crate) fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.0.install(work)
    }

    pub(crate) fn threads(&self) -> usize {
        self.0.current_num_threads()
    }
}
