// SPDX-License-Identifier: MPL-2.0

//! Cuts in mappings of which [each counts](crate::mapping::Joint::Counted).
//!
//! A change splits mappings at the ends of its range before it knows what becomes of them. Most mappings are joined again where both
//! sides are alike; those that count never are, but for a cut that the very change has made:
//!
//! ```text
//!   ───────────────  ─► split ─►  ─────┊─────────  ─► change ─►  ─────┊═════════   told of the cut
//!                                                           └►  ───────────────   nothing has changed: no cut
//! ```

use super::mappings::Mappings;
use crate::machine::Machine;

impl<M: Machine> Mappings<M> {
    /// Tells a mapping of the cut at `at` that a change has just made, or takes the cut back if both sides are alike.
    #[cold]
    #[inline(never)]
    pub(super) fn settle_cut(&mut self, at: usize) {
        let Some((mapping, [below, _])) = self.map.with_neighbours(at) else { return };
        let below = below.filter(|(range, below)| below.is_alike(range.len(), mapping));
        let Some(start) = below.map(|(range, _)| range.start) else { return mapping.note_cut() };
        let Some(end) = self.find(at).map(|(found, _)| found.end) else { return };
        let absorbed = self.take_out(at);
        let Some((_, mapping)) = self.map.find_mut(start) else { return };
        if let Some(absorbed) = &absorbed {
            mapping.absorb(absorbed);
        }
        self.resize(start, start..end);
    }
}

#[cfg(test)]
mod tests;
