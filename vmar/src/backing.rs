// SPDX-License-Identifier: MPL-2.0

//! What a mapping may ever be allowed to do: the one place where that is decided.
//!
//! ```text
//!                    reading and executing           writing, shared          writing, private
//!   handle           READ, EXEC                      WRITE                    WRITE
//!   ceiling          READ, EXEC                      WRITE                    WRITE
//!   object           READ, READ and EXEC             READ and WRITE           READ (a copy is written)
//!   backing          READ, EXEC                      WRITE                    nothing
//! ```
//!
//! The answer is stored as the mapping's MAY bits, and nothing downstream decides again.

use aster_rights::Rights;

use crate::{error::Error, mapping::Sharing, perms::VmPerms};

/// Everything that bounds a mapping.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The rights of the capability to the address space.
    pub handle: Rights,
    /// The most that the space, or the region of it, allows anybody.
    pub ceiling: Rights,
    /// The rights of the capability to the object; `None` if there is none.
    pub object: Option<Rights>,
    /// What lies behind the object allows.
    pub backing: Rights,
    /// Whether writes are seen by others.
    pub sharing: Sharing,
    /// The MAY bits that were asked for.
    pub wanted: VmPerms,
}

/// Returns the MAY bits of a mapping.
///
/// # Errors
///
/// [`Error::AccessDenied`] if the object cannot be read, which every mapping of it needs.
pub fn may_perms(bounds: &Bounds) -> Result<VmPerms, Error> {
    let object = bounds.object.unwrap_or(Rights::all());
    if !object.contains(Rights::READ) {
        return Err(Error::AccessDenied);
    }
    let mut behind = object & bounds.backing;
    if bounds.sharing == Sharing::Private {
        behind |= Rights::WRITE;
    }
    let allowed = bounds.handle & bounds.ceiling & behind;
    let mut may = VmPerms::empty();
    may.set(VmPerms::MAY_READ, allowed.contains(Rights::READ));
    may.set(VmPerms::MAY_WRITE, allowed.contains(Rights::WRITE));
    may.set(VmPerms::MAY_EXEC, allowed.contains(Rights::EXEC));
    Ok(may & bounds.wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHTS: [Rights; 3] = [Rights::READ, Rights::WRITE, Rights::EXEC];

    /// Every how many subsets one is looked at.
    const STEP: usize = if cfg!(miri) { 3 } else { 1 };

    /// Returns every subset of READ, WRITE and EXEC.
    fn subsets() -> impl Iterator<Item = Rights> + Clone {
        (0..8).step_by(STEP).map(|bits: usize| {
            (0..3)
                .filter(|bit| bits >> bit & 1 == 1)
                .map(|bit| RIGHTS[bit])
                .fold(Rights::empty(), |a, b| a | b)
        })
    }

    /// Calls `check` with every combination of everything that bounds a mapping.
    fn for_all(mut check: impl FnMut(Bounds)) {
        for handle in subsets() {
            for ceiling in subsets() {
                for object in subsets().map(Some).chain([None]) {
                    for backing in subsets() {
                        for sharing in [Sharing::Private, Sharing::Shared] {
                            for wanted in subsets() {
                                let wanted = VmPerms::from_bits_truncate((wanted.bits() << 3) as u8);
                                check(Bounds { handle, ceiling, object, backing, sharing, wanted });
                            }
                        }
                    }
                }
            }
        }
    }

    /// Says in words, right by right, what the function says in sets.
    fn expect(bounds: &Bounds, right: Rights, may: VmPerms) -> bool {
        let by_space = bounds.handle.contains(right) && bounds.ceiling.contains(right);
        let by_object = match bounds.object {
            None => true,
            Some(_) if right == Rights::WRITE && bounds.sharing == Sharing::Private => true,
            Some(object) => object.contains(right),
        };
        let by_backing =
            right == Rights::WRITE && bounds.sharing == Sharing::Private || bounds.backing.contains(right);
        by_space && by_object && by_backing && bounds.wanted.contains(may)
    }

    #[test]
    fn v5_may_mask_is_the_intersection_in_every_combination() {
        let mut combinations = 0;
        for_all(|bounds| {
            combinations += 1;
            let result = may_perms(&bounds);
            if bounds.object.is_some_and(|object| !object.contains(Rights::READ)) {
                assert_eq!(result, Err(Error::AccessDenied), "{bounds:?}");
                return;
            }
            let may = result.unwrap();
            let bits = [VmPerms::MAY_READ, VmPerms::MAY_WRITE, VmPerms::MAY_EXEC];
            for (right, bit) in RIGHTS.into_iter().zip(bits) {
                assert_eq!(may.contains(bit), expect(&bounds, right, bit), "{right:?} of {bounds:?}");
            }
            assert!(VmPerms::MAY.contains(may));
        });
        let subsets = 8_usize.div_ceil(STEP);
        assert_eq!(combinations, subsets.pow(5) * 2 + subsets.pow(4) * 2);
    }

    #[test]
    fn v4_rights_of_an_object_bound_what_its_mappings_may_do() {
        for object in subsets() {
            for sharing in [Sharing::Private, Sharing::Shared] {
                let may = may_perms(&Bounds {
                    handle: Rights::all(),
                    ceiling: Rights::all(),
                    object: Some(object),
                    backing: Rights::all(),
                    sharing,
                    wanted: VmPerms::MAY,
                });
                let Ok(may) = may else {
                    assert!(!object.contains(Rights::READ));
                    continue;
                };
                let writable = sharing == Sharing::Private || object.contains(Rights::WRITE);
                assert_eq!(may.contains(VmPerms::MAY_WRITE), writable);
                assert_eq!(may.contains(VmPerms::MAY_EXEC), object.contains(Rights::EXEC));
            }
        }
    }
}
