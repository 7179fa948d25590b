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

use alloc::collections::LinkedList;

use super::{Role, Socket, message::Message};
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
        // Without memory there is none to be found now; it is still there on the next occasion.
        drop(find_garbage());
        LEFT_OUT.store(COUNT.load(Ordering::Relaxed) / SHARE, Ordering::Relaxed);
        IS_SEARCHING.store(false, Ordering::Release);
    }
}

/// Takes the messages out of the inboxes of all garbage: those of one inbox after the other. The files that go with them may be
/// sockets with messages of their own.
fn find_garbage() -> Result<LinkedList<VecDeque<Message>>> {
    let (mut candidates, arrivals) = candidates()?;
    // They are in the order of their addresses.
    let addresses = try_collect(candidates.iter().map(|candidate| address(&candidate.file)))?;
    let mut held_by_candidates = try_filled(0, candidates.len())?;
    for candidate in &mut candidates {
        let mut inbox = Vec::new();
        for_each_inbox(&candidate.file, |socket| {
            let messages = socket.inbox.lock();
            let mut places = messages.files().filter_map(|file| addresses.binary_search(&address(file)).ok());
            places.try_for_each(|place| try_push(&mut inbox, place))
        })?;
        inbox.iter().for_each(|place| held_by_candidates[*place] += 1);
        candidate.inbox = inbox;
    }

    let mut is_reachable = try_filled(false, candidates.len())?;
    let mut found = try_collect(
        (0..candidates.len()).filter(|place| candidates[*place].count > held_by_candidates[*place]),
    )?;
    while let Some(place) = found.pop() {
        if !core::mem::replace(&mut is_reachable[place], true) {
            let inbox = &candidates[place].inbox;
            try_reserve(&mut found, inbox.len())?;
            found.extend(inbox);
        }
    }

    let mut garbage = LinkedList::new();
    if FLIGHTS.lock().arrivals != arrivals {
        return Ok(garbage);
    }
    for (candidate, _) in candidates.iter().zip(is_reachable).filter(|(_, is_reachable)| !is_reachable) {
        for_each_inbox(&candidate.file, |socket| {
            garbage.push_back(socket.inbox.lock().take_all());
            Ok(())
        })?;
    }
    Ok(garbage)
}

/// The files that nothing but messages holds, and how many arrivals there were by now.
fn candidates() -> Result<(Vec<Candidate>, u64)> {
    // Dropped after the lock is released: each may be the last that holds a file.
    let mut candidates = Vec::new();
    let mut others = Vec::new();
    let flights = FLIGHTS.lock();
    try_reserve(&mut candidates, flights.by_address.len())?;
    try_reserve(&mut others, flights.by_address.len())?;
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
    Ok((candidates, arrivals))
}

/// Calls `visit` with the socket, and with those that wait in its queue to be accepted.
fn for_each_inbox(file: &Arc<File>, mut visit: impl FnMut(&Socket) -> Result<()>) -> Result<()> {
    let Some(socket) = file.downcast_ops::<Socket>() else { return Ok(()) };
    visit(socket)?;
    let waiting = match &socket.state.lock().role {
        Role::Listening { queue, .. } => try_collect(queue.iter().cloned())?,
        _ => Vec::new(),
    };
    waiting.iter().try_for_each(|socket| visit(socket))
}

fn address(file: &Arc<File>) -> usize {
    Arc::as_ptr(file).addr()
}
