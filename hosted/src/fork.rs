// SPDX-License-Identifier: MPL-2.0

//! Fork, with the space's lock held (Q13).
//!
//! The host copies private memory and shares the rest by itself. What it cannot know is the lock: a thread that holds it while another
//! forks does not exist in the child, where nobody would ever let go of it. So whoever forks holds it, and is there on both sides.

use crate::{error::Error, host::Host, mapping::OnFork, space::GuestSpace};

/// Who comes out of a fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side<P> {
    /// The parent, with whatever it knows of the child.
    Parent(P),
    /// The child.
    Child,
}

impl<H: Host> GuestSpace<H> {
    /// Calls `fork`, which forks the process, with the lock held; it is free in both processes when this returns. In the child, what is
    /// marked [`OnFork::Wipe`] has been wiped.
    ///
    /// # Errors
    ///
    /// In the child: [`Error::Host`] if the host refused to wipe. Before `fork` is called: [`Error::Broken`].
    pub fn fork<P>(&self, fork: impl FnOnce() -> Side<P>) -> Result<Side<P>, Error> {
        let mut call = self.enter()?;
        let side = fork();
        if matches!(side, Side::Child) {
            let wiped: Vec<_> = call
                .state
                .table
                .pieces(self.range())
                .filter(|(_, mapping)| mapping.on_fork == OnFork::Wipe)
                .collect();
            for (part, mapping) in wiped {
                call.discard(&part, &mapping)?;
            }
        }
        Ok(side)
    }
}
