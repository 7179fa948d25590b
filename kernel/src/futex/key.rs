// SPDX-License-Identifier: MPL-2.0

//! What memory a futex is: the same for all who can wake each other.

use vmar::{mapping::MappedMemory, object::Vmo_};
use vmar_ostd::Ostd;

use super::word;
use crate::{mm::AddressSpace, prelude::*};

/// Who may use a futex together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The threads of one address space (`FUTEX_PRIVATE_FLAG`).
    Private,
    /// All who map the same memory.
    Shared,
}

/// What memory a futex is.
#[derive(Clone)]
pub enum Key {
    /// An address of an address space.
    Private {
        /// Tells address spaces apart.
        space: usize,
        /// The address.
        addr: Vaddr,
        /// Whether callers have said that nobody else uses it.
        scope: Scope,
    },
    /// A place in an object. The key keeps the object, so that no other can look the same.
    Shared {
        /// The object.
        object: Arc<Vmo_<Ostd>>,
        /// The place, in bytes.
        offset: usize,
    },
}

impl Key {
    /// The key of the word at `addr`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the address is not aligned; `EFAULT` if nothing can be there.
    pub fn of(vm: &AddressSpace, addr: Vaddr, scope: Scope) -> Result<Self> {
        word::check(addr)?;
        let private = Self::Private { space: core::ptr::from_ref(vm).addr(), addr, scope };
        if scope == Scope::Private {
            return Ok(private);
        }
        let mappings = vm.vmar().query(addr..addr + size_of::<u32>());
        let mapping = mappings.first().ok_or(EFAULT)?;
        match mapping.memory() {
            MappedMemory::Vmo { object, offset } if mapping.is_shared() => Ok(Self::Shared {
                object: object.object().clone(),
                offset: offset + (addr - mapping.range().start),
            }),
            _ => Ok(private),
        }
    }

    /// A number that equal keys have in common.
    pub(super) fn hash(&self) -> usize {
        let (object, place) = match self {
            Self::Private { space, addr, .. } => (*space, *addr),
            Self::Shared { object, offset } => (Arc::as_ptr(object).addr(), *offset),
        };
        // Fibonacci hashing: the high bits of the product depend on all bits.
        let mixed = (object >> 4 ^ place >> 2).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed >> 48
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Private { space, addr, scope },
                Self::Private { space: other_space, addr: other_addr, scope: other_scope },
            ) => (space, addr, scope) == (other_space, other_addr, other_scope),
            (
                Self::Shared { object, offset },
                Self::Shared { object: other_object, offset: other_offset },
            ) => Arc::ptr_eq(object, other_object) && offset == other_offset,
            _ => false,
        }
    }
}
