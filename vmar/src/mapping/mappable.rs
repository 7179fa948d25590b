// SPDX-License-Identifier: MPL-2.0

//! What lies behind a mapping, as the kernel knows it.

use alloc::sync::Arc;
use core::{any::Any, fmt::Debug};

use crate::placement::Constraint;

/// What the kernel knows of a mapping and the framework does not: the file, its name, the device.
///
/// A kernel gets its own type back by way of [`Any`].
pub trait Mappable: Any + Debug + Send + Sync {
    /// Returns where it can be mapped. Looked at when a mapping is made; one that moves later goes by the space's rules alone.
    fn constraint(&self) -> Constraint {
        Constraint::NONE
    }

    /// Returns how mappings of it hang together.
    fn joint(&self) -> Joint {
        Joint::Seamless
    }

    /// Notes that a mapping of it has been cut: there are two, if only until one of them goes. The lock of the space is held.
    fn note_cut(&self) {}
}

/// How mappings of one thing hang together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Joint {
    /// Neighbours that continue each other become one.
    #[default]
    Seamless,
    /// Each counts: what was cut never becomes one again.
    Counted,
}

/// Returns whether what two mappings know is the same.
pub(super) fn same_mappable(a: Option<&Arc<dyn Mappable>>, b: Option<&Arc<dyn Mappable>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}
