// SPDX-License-Identifier: MPL-2.0

//! Universes of several sizes: their sets agree with bit arithmetic, and are what the documentation says.

use std::any::{TypeId, type_name};

use typeflags::typeflags;
use typeflags_util::{Absent, Contains, Flag, FlagSet, Includes};

typeflags! {
    /// Three flags whose bits are neither in order nor adjacent.
    pub trait Colour: u8 {
        pub struct Red = 1 << 7;
        pub struct Green = 1;
        pub struct Blue = 1 << 4;
    }
}

typeflags! {
    /// The smallest universe, with a constant for a value, and private.
    trait Lone: u128 {
        struct Only = TOP;
    }
}

const TOP: u128 = 1 << 127;

/// Says of a concrete type whether it implements a trait: the constant of an inherent `impl` that applies goes before
/// that of the trait.
struct Probe<A, B>(A, B);

trait Otherwise {
    const CONTAINS: bool = false;
    const INCLUDES: bool = false;
}

impl<A, B> Otherwise for Probe<A, B> {}

impl<A: Contains<F>, F: Flag> Probe<A, F> {
    const CONTAINS: bool = true;
}

struct Superset<A, B>(A, B);

impl<A, B> Otherwise for Superset<A, B> {}

impl<A: Includes<B>, B: FlagSet> Superset<A, B> {
    const INCLUDES: bool = true;
}

/// Calls `$then! { $context ; sets }` with every set of colours.
macro_rules! with_all_sets {
    ($then:ident $context:tt) => {
        $then! { $context ; [] [Red] [Green] [Red, Green] [Blue] [Red, Blue] [Green, Blue] [Red, Green, Blue] }
    };
}

/// A set as a value and as a type.
fn of<S: Colour>() -> (u8, TypeId) {
    (S::BITS, TypeId::of::<S>())
}

/// Whether `a` has all bits of `b`.
fn includes(a: u8, b: u8) -> bool {
    a & b == b
}

/// Every set of colours.
fn all_sets() -> Vec<(u8, TypeId)> {
    macro_rules! list {
        (() ; $($set:tt)*) => { vec![$(of::<Colour! $set>()),*] };
    }
    with_all_sets!(list())
}

/// The set with these bits, as `of` gives it.
fn set_of(bits: u8) -> (u8, TypeId) {
    all_sets().into_iter().find(|set| set.0 == bits).unwrap()
}

#[test]
fn each_set_is_a_type_of_its_own() {
    let sets = all_sets();
    for (index, set) in sets.iter().enumerate() {
        let place = |flag: usize, bit: u8| if index & (1 << flag) != 0 { bit } else { 0 };
        assert_eq!(set.0, place(0, Red::BIT) | place(1, Green::BIT) | place(2, Blue::BIT));
        assert_eq!(sets.iter().filter(|other| other.1 == set.1).count(), 1);
    }
}

#[test]
fn the_order_of_flags_does_not_matter() {
    let all = of::<Colour![Red, Green, Blue]>();
    assert_eq!(of::<Colour![Red, Blue, Green]>(), all);
    assert_eq!(of::<Colour![Green, Red, Blue]>(), all);
    assert_eq!(of::<Colour![Green, Blue, Red]>(), all);
    assert_eq!(of::<Colour![Blue, Red, Green]>(), all);
    assert_eq!(of::<Colour![Blue, Green, Red,]>(), all);
    assert_eq!(of::<Colour![Blue, Blue]>(), of::<Colour![Blue]>());
}

#[test]
fn operations_on_all_pairs_agree_with_bits() {
    let mut pairs = 0;
    macro_rules! rows {
        (() ; $($a:tt)*) => { $(with_all_sets! { pairs_of $a })* };
    }
    macro_rules! pairs_of {
        ($a:tt ; $($b:tt)*) => { $({
            type A = Colour! $a;
            type B = Colour! $b;
            assert_eq!(of::<<A as Colour>::Union<B>>(), set_of(A::BITS | B::BITS));
            assert_eq!(of::<<A as Colour>::Intersection<B>>(), set_of(A::BITS & B::BITS));
            assert_eq!(of::<<A as Colour>::Difference<B>>(), set_of(A::BITS & !B::BITS));
            assert_eq!(Superset::<A, B>::INCLUDES, includes(A::BITS, B::BITS));
            pairs += 1;
        })* };
    }
    with_all_sets!(rows());
    assert_eq!(pairs, 8 * 8);
}

#[test]
fn contains_agrees_with_bits() {
    let mut pairs = 0;
    macro_rules! check {
        (() ; $($set:tt)*) => { $(check!(@ $set Red); check!(@ $set Green); check!(@ $set Blue);)* };
        (@ $set:tt $flag:ident) => {
            assert_eq!(Probe::<Colour! $set, $flag>::CONTAINS, includes(<Colour! $set>::BITS, $flag::BIT));
            pairs += 1;
        };
    }
    with_all_sets!(check());
    assert_eq!(pairs, 8 * 3);
}

#[test]
fn generic_code_computes_with_sets() {
    fn toggled<A: Colour, B: Colour>() -> (u8, TypeId)
    where
        A::Union<B>: Includes<A::Intersection<B>>,
    {
        of::<<A::Union<B> as Colour>::Difference<A::Intersection<B>>>()
    }
    assert_eq!(toggled::<Colour![Red, Green], Colour![Green, Blue]>(), of::<Colour![Blue, Red]>());
}

#[test]
fn a_universe_of_one_flag_in_the_top_bit() {
    assert_eq!(<Lone![]>::BITS, 0);
    assert_eq!(<Lone![Only]>::BITS, 1 << 127);
    assert_eq!(<<Lone![Only] as Lone>::Difference<Lone![Only]>>::BITS, 0);
    let contains = [Probe::<Lone![Only], Only>::CONTAINS, Probe::<Lone![], Only>::CONTAINS];
    assert_eq!(contains, [true, false]);
}

#[test]
fn flags_and_sets_take_no_memory() {
    assert_eq!(size_of::<Red>(), 0);
    assert_eq!(size_of::<Absent>(), 0);
    macro_rules! check {
        (() ; $($set:tt)*) => { $(assert_eq!((size_of::<Colour! $set>(), align_of::<Colour! $set>()), (0, 1));)* };
    }
    with_all_sets!(check());
}

#[test]
fn the_name_of_a_set_shows_what_is_in_it() {
    let name = type_name::<Colour![Blue, Red]>();
    let slots: Vec<_> = ["Red", "Absent", "Blue"].iter().map(|slot| name.find(slot).unwrap()).collect();
    assert!(slots.is_sorted(), "{name}");
    assert!(!name.contains("Green"), "{name}");
}
