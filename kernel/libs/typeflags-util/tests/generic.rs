// SPDX-License-Identifier: MPL-2.0

//! Code over any set of any universe, with the traits of this crate alone.

use core::ops::BitAnd;

use typeflags::typeflags;
use typeflags_util::{Contains, Flag, FlagSet, Includes};

typeflags! {
    trait Door: u8 {
        struct Open = 1;
        struct Lock = 2;
    }
}

typeflags! {
    trait Window: u64 {
        struct Tilt = 1 << 63;
    }
}

/// Whether a set has a flag, asked at run time.
fn has<S: FlagSet<Bits = F::Bits>, F: Flag>() -> bool
where
    F::Bits: BitAnd<Output = F::Bits> + PartialEq,
{
    S::BITS & F::BIT == F::BIT
}

/// As `has`, but it need not ask.
fn surely_has<S: Contains<F> + FlagSet<Bits = F::Bits>, F: Flag>() -> bool
where
    F::Bits: BitAnd<Output = F::Bits> + PartialEq,
{
    has::<S, F>()
}

/// The bits of the bigger set and of the smaller.
fn nested<A: Includes<B>, B: FlagSet>() -> (A::Bits, B::Bits) {
    (A::BITS, B::BITS)
}

#[test]
fn flags_are_found_in_sets_of_any_universe() {
    assert!(surely_has::<Door![Lock], Lock>());
    assert!(!has::<Door![Lock], Open>());
    assert!(surely_has::<Window![Tilt], Tilt>());
    assert!(!has::<Window![], Tilt>());
}

#[test]
fn sets_of_any_universe_nest() {
    assert_eq!(nested::<Door![Lock, Open], Door![Lock]>(), (3, 2));
    assert_eq!(nested::<Door![], Door![]>(), (0, 0));
    assert_eq!(nested::<Window![Tilt], Window![]>(), (1 << 63, 0));
}
