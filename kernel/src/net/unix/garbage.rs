// SPDX-License-Identifier: MPL-2.0

//! Sockets that only messages hold, each in the inbox of another of them: nobody can receive them any more.
//!
//! ```text
//!   descriptor ─► socket ─► inbox: socket ─► inbox: file            reachable
//!                 socket ─► inbox: socket ─► inbox: the first       garbage
//! ```
//!
//! A socket's file that is on its way is a candidate if nothing but messages holds it. Candidates that more messages hold than
//! there are in candidates' inboxes can be received, and so can all that is in the inboxes of what can be received. The rest is
//! garbage for good. The search looks at one inbox after the other, while others receive and send; it counts only if
//! nothing has arrived meanwhile.

use super::{
    Role, Socket,
    message::{self, Message},
};
use crate::{fs::File, prelude::*};

/// The files of sockets that are on their way.
struct Flights {
    by_address: BTreeMap<usize, Flight>,
    /// Counts arrivals.
    arrivals: u64,
}

/// A file, and how many messages hold it.
struct Flight {
    file: Weak<File>,
    count: usize,
}

static FLIGHTS: SpinLock<Flights> = SpinLock::new(Flights { by_address: BTreeMap::new(), arrivals: 0 });
/// How many files are in [`FLIGHTS`], to look at without its lock.
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// How many more occasions to search are left out, so that a search among many does not come too often.
static LEFT_OUT: AtomicUsize = AtomicUsize::new(0);
/// The share of the files in flight that occasions are left out for after a search.
const SHARE: usize = 16;
/// With more in flight than that, sending is an occasion to search, too.
const MANY: usize = 256;

static IS_WANTED: AtomicBool = AtomicBool::new(false);
static IS_SEARCHING: AtomicBool = AtomicBool::new(false);

/// A candidate for being garbage.
struct Candidate {
    file: Arc<File>,
    count: usize,
    /// The candidates in its inbox, by their places.
    inbox: Vec<usize>,
}

/// Notes that a message holds the files. It must not be in an inbox yet.
pub(super) fn depart(files: &[Arc<File>]) {
    let mut flights = FLIGHTS.lock();
    for file in files.iter().filter(|file| file.downcast_ops::<Socket>().is_some()) {
        let new = || Flight { file: Arc::downgrade(file), count: 0 };
        flights.by_address.entry(address(file)).or_insert_with(new).count += 1;
    }
    COUNT.store(flights.by_address.len(), Ordering::Relaxed);
    drop(flights);
    if COUNT.load(Ordering::Relaxed) > MANY {
        collect();
    }
}

/// Notes that a message holds the files no longer. Whoever had the message still holds them.
pub(super) fn arrive(files: &[Arc<File>]) {
    let mut flights = FLIGHTS.lock();
    flights.arrivals += 1;
    for file in files {
        let address = address(file);
        if let Some(flight) = flights.by_address.get_mut(&address) {
            flight.count -= 1;
            if flight.count == 0 {
                flights.by_address.remove(&address);
            }
        }
    }
    COUNT.store(flights.by_address.len(), Ordering::Relaxed);
}

/// Searches for garbage and closes it, if there can be any. An occasion is the closing of a socket.
pub(super) fn collect() {
    if COUNT.load(Ordering::Relaxed) == 0 {
        return;
    }
    let is_left_out = |left: usize| left.checked_sub(1);
    if LEFT_OUT.try_update(Ordering::Relaxed, Ordering::Relaxed, is_left_out).is_ok() {
        return;
    }
    // What is closed here comes here again; the outermost goes on with it.
    IS_WANTED.store(true, Ordering::Release);
    while IS_WANTED.load(Ordering::Acquire) && !IS_SEARCHING.swap(true, Ordering::AcqRel) {
        IS_WANTED.store(false, Ordering::Release);
        message::bury(find_garbage());
        LEFT_OUT.store(COUNT.load(Ordering::Relaxed) / SHARE, Ordering::Relaxed);
        IS_SEARCHING.store(false, Ordering::Release);
    }
}

/// Takes the messages out of the inboxes of all garbage.
fn find_garbage() -> VecDeque<Message> {
    let (mut candidates, arrivals) = candidates();
    let places: BTreeMap<usize, usize> =
        candidates.iter().enumerate().map(|(place, candidate)| (address(&candidate.file), place)).collect();
    let mut held_by_candidates = vec![0; candidates.len()];
    for candidate in &mut candidates {
        let mut inbox = Vec::new();
        for_each_inbox(&candidate.file, |socket| {
            let messages = socket.inbox.lock();
            inbox.extend(messages.files().filter_map(|file| places.get(&address(file)).copied()));
        });
        inbox.iter().for_each(|place| held_by_candidates[*place] += 1);
        candidate.inbox = inbox;
    }

    let mut is_reachable = vec![false; candidates.len()];
    let mut found: Vec<usize> =
        (0..candidates.len()).filter(|place| candidates[*place].count > held_by_candidates[*place]).collect();
    while let Some(place) = found.pop() {
        if !core::mem::replace(&mut is_reachable[place], true) {
            found.extend(&candidates[place].inbox);
        }
    }

    let mut garbage = VecDeque::new();
    if FLIGHTS.lock().arrivals != arrivals {
        return garbage;
    }
    for (candidate, _) in candidates.iter().zip(is_reachable).filter(|(_, is_reachable)| !is_reachable) {
        for_each_inbox(&candidate.file, |socket| garbage.append(&mut socket.inbox.lock().take_all()));
    }
    garbage
}

/// The files that nothing but messages holds, and how many arrivals there were by now.
fn candidates() -> (Vec<Candidate>, u64) {
    let flights = FLIGHTS.lock();
    let mut candidates = Vec::new();
    let mut others = Vec::new();
    for flight in flights.by_address.values() {
        let Some(file) = flight.file.upgrade() else { continue };
        // This one holds it, too.
        if Arc::strong_count(&file) == flight.count + 1 {
            candidates.push(Candidate { file, count: flight.count, inbox: Vec::new() });
        } else {
            others.push(file);
        }
    }
    let arrivals = flights.arrivals;
    drop(flights);
    // Only now: it may be the last that holds them.
    drop(others);
    (candidates, arrivals)
}

/// Calls `visit` with the socket, and with those that wait in its queue to be accepted.
fn for_each_inbox(file: &Arc<File>, mut visit: impl FnMut(&Socket)) {
    let Some(socket) = file.downcast_ops::<Socket>() else { return };
    visit(socket);
    let waiting: Vec<Arc<Socket>> = match &socket.state.lock().role {
        Role::Listening { queue, .. } => queue.iter().cloned().collect(),
        _ => Vec::new(),
    };
    waiting.iter().for_each(|socket| visit(socket));
}

fn address(file: &Arc<File>) -> usize {
    Arc::as_ptr(file).addr()
}
