// SPDX-License-Identifier: MPL-2.0

//! The heap behind a program's data: brk.

use vmar::{perms::VmPerms, placement::Placement};

use crate::{
    error::Error,
    host::Host,
    map::MapOptions,
    space::{Call, GuestSpace},
};

/// Where the heap starts, and where it ends (any byte).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heap {
    start: usize,
    end: usize,
}

impl<H: Host> GuestSpace<H> {
    /// Begins an empty heap at `start` (bytes; rounded up to a guest page), which a loader does once a program is in place.
    pub fn begin_heap(&self, start: usize) {
        let start = start.next_multiple_of(self.page_size());
        self.lock().state.heap = Some(Heap { start, end: start });
    }

    /// Moves the end of the heap, and returns where it is afterwards. As in Linux, one that cannot be moved stays, which is no error.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`].
    pub fn brk(&self, end: usize) -> Result<usize, Error> {
        let mut call = self.enter()?;
        match call.move_break(end) {
            Err(Error::Broken) => Err(Error::Broken),
            _ => Ok(call.state.heap.map_or(0, |heap| heap.end)),
        }
    }
}

impl<H: Host> Call<'_, H> {
    fn move_break(&mut self, end: usize) -> Result<(), Error> {
        let Some(heap) = self.state.heap.filter(|heap| heap.start <= end) else { return Ok(()) };
        let round = |addr: usize| addr.checked_next_multiple_of(self.layout().guest);
        let (Some(old), Some(new)) = (round(heap.end), round(end)) else { return Ok(()) };
        if new > old {
            let options = MapOptions::new(new - old)
                .prot(VmPerms::READ | VmPerms::WRITE)
                .placement(Placement::Exactly(old));
            self.map(&options)?;
        } else if new < old {
            self.unmap(new, old - new)?;
        }
        self.state.heap = Some(Heap { end, ..heap });
        Ok(())
    }
}
