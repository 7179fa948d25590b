// SPDX-License-Identifier: MPL-2.0

//! Jobs beside each other, as many as the machine has processors for.

use std::{
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::Result;

/// How many processors there are.
pub fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Does a job for each item, in their order; each is begun once as many processors are free as it needs (all, if it needs more).
///
/// # Errors
///
/// The first one of a job. No other is begun then, and those that were are waited for.
pub fn run<T: Sync>(
    items: &[T],
    needs: impl Fn(&T) -> usize,
    job: impl Fn(&T) -> Result<()> + Sync,
) -> Result<()> {
    let all = processors();
    let free = Processors { free: Mutex::new(all), more: Condvar::new() };
    let has_failed = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut begun = Vec::new();
        for item in items {
            let taken = free.take(needs(item).clamp(1, all));
            if has_failed.load(Ordering::Relaxed) {
                break;
            }
            let (job, has_failed) = (&job, &has_failed);
            begun.push(scope.spawn(move || {
                let done = job(item);
                has_failed.fetch_or(done.is_err(), Ordering::Relaxed);
                drop(taken);
                done
            }));
        }
        begun.into_iter().try_for_each(|job| job.join().expect("a job does not panic"))
    })
}

struct Processors {
    free: Mutex<usize>,
    more: Condvar,
}

/// Processors that a job has, until this is dropped.
struct Taken<'a> {
    from: &'a Processors,
    count: usize,
}

impl Processors {
    /// Waits until so many are free, and takes them.
    fn take(&self, count: usize) -> Taken<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free =
            self.more.wait_while(free, |free| *free < count).unwrap_or_else(PoisonError::into_inner);
        *free -= count;
        Taken { from: self, count }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.from.free.lock().unwrap_or_else(PoisonError::into_inner) += self.count;
        self.from.more.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use anyhow::bail;

    use super::*;

    #[test]
    fn no_more_than_the_processors_are_taken() {
        let all = processors();
        let (now, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let needs: Vec<usize> = (0..40).map(|number| number % (all + 2)).collect();
        let taken = |need: &usize| (*need).clamp(1, all);
        run(&needs, taken, |need| {
            assert!(now.fetch_add(taken(need), Ordering::SeqCst) + taken(need) <= all);
            thread::yield_now();
            now.fetch_sub(taken(need), Ordering::SeqCst);
            done.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
        .unwrap();
        assert_eq!((done.into_inner(), now.into_inner()), (needs.len(), 0));
    }

    #[test]
    fn nothing_is_begun_after_an_error() {
        let done = AtomicUsize::new(0);
        let failed = run(
            &[1, 2, 3, 4],
            |_| usize::MAX,
            |number| {
                done.fetch_add(1, Ordering::SeqCst);
                if *number == 2 { bail!("two") } else { Ok(()) }
            },
        );
        assert_eq!((failed.unwrap_err().to_string().as_str(), done.into_inner()), ("two", 2));
    }
}
