// SPDX-License-Identifier: MPL-2.0

//! All sets of rights, and all pairs of them: what the types say is what the values say.

use std::{any::TypeId, collections::HashMap};

use aster_rights::{
    Contains, Dup, Exec, FlagSet, FullRights, Includes, MissingRights, Read, Rights, RightsOp, Signal,
    TRightSet, TRights, Write,
};

/// Says of concrete types whether one includes, or contains, the other: the constant of an inherent `impl` that applies
/// goes before that of the trait.
struct Superset<A, B>(A, B);
struct Member<A, F>(A, F);

trait Otherwise {
    const YES: bool = false;
}

impl<A, B> Otherwise for Superset<A, B> {}
impl<A, F> Otherwise for Member<A, F> {}

impl<A: Includes<B>, B: TRights> Superset<A, B> {
    const YES: bool = true;
}

impl<A: Contains<F>, F: typeflags_util::Flag> Member<A, F> {
    const YES: bool = true;
}

/// Calls `$then! { $context ; sets }` with all 32 sets, in the order of their bits.
macro_rules! with_all_sets {
    ($then:ident $context:tt) => {
        $then! {
            $context ;
            [] [Dup] [Read] [Dup, Read]
            [Write] [Dup, Write] [Read, Write] [Dup, Read, Write]
            [Exec] [Dup, Exec] [Read, Exec] [Dup, Read, Exec]
            [Write, Exec] [Dup, Write, Exec] [Read, Write, Exec] [Dup, Read, Write, Exec]
            [Signal] [Dup, Signal] [Read, Signal] [Dup, Read, Signal]
            [Write, Signal] [Dup, Write, Signal] [Read, Write, Signal] [Dup, Read, Write, Signal]
            [Exec, Signal] [Dup, Exec, Signal] [Read, Exec, Signal] [Dup, Read, Exec, Signal]
            [Write, Exec, Signal] [Dup, Write, Exec, Signal] [Read, Write, Exec, Signal]
            [Dup, Read, Write, Exec, Signal]
        }
    };
}

/// A set as a value and as a type.
fn of<S: TRights>() -> (Rights, TypeId) {
    (TRightSet::<S>::RIGHTS, TypeId::of::<S>())
}

/// All 32 sets, in the order of their bits.
fn all_sets() -> Vec<(Rights, TypeId)> {
    macro_rules! list {
        (() ; $($set:tt)*) => { vec![$(of::<TRights! $set>()),*] };
    }
    with_all_sets!(list())
}

#[test]
fn each_set_is_a_type_of_its_own() {
    let sets = all_sets();
    for (bits, set) in sets.iter().enumerate() {
        assert_eq!(set.0.bits() as usize, bits);
    }
    assert_eq!(sets.iter().map(|set| (set.1, set.0)).collect::<HashMap<_, _>>().len(), 32);
}

#[test]
fn operations_on_all_pairs_agree_with_values() {
    let sets = all_sets();
    let set_of = |rights: Rights| sets[rights.bits() as usize];
    let mut pairs = 0;
    let mut check = |[a, b, union, intersection, difference]: [(Rights, TypeId); 5], includes: bool| {
        assert_eq!(union, set_of(a.0 | b.0), "{a:?} {b:?}");
        assert_eq!(intersection, set_of(a.0 & b.0), "{a:?} {b:?}");
        assert_eq!(difference, set_of(a.0 - b.0), "{a:?} {b:?}");
        assert_eq!(includes, a.0.contains(b.0), "{a:?} {b:?}");
        pairs += 1;
    };
    macro_rules! rows {
        (() ; $($a:tt)*) => { $(with_all_sets! { pairs_of $a })* };
    }
    macro_rules! pairs_of {
        ($a:tt ; $($b:tt)*) => {{
            type A = TRights! $a;
            $({
                type B = TRights! $b;
                let sets = [
                    of::<A>(),
                    of::<B>(),
                    of::<<A as TRights>::Union<B>>(),
                    of::<<A as TRights>::Intersection<B>>(),
                    of::<<A as TRights>::Difference<B>>(),
                ];
                check(sets, Superset::<A, B>::YES);
            })*
        }};
    }
    with_all_sets!(rows());
    assert_eq!(pairs, 32 * 32);
}

#[test]
fn contains_agrees_with_values() {
    let mut pairs = 0;
    macro_rules! check {
        (() ; $($set:tt)*) => { $(
            check!(@ $set Dup DUP);
            check!(@ $set Read READ);
            check!(@ $set Write WRITE);
            check!(@ $set Exec EXEC);
            check!(@ $set Signal SIGNAL);
        )* };
        (@ $set:tt $right:ident $value:ident) => {
            assert_eq!(Member::<TRights! $set, $right>::YES, of::<TRights! $set>().0.contains(Rights::$value));
            pairs += 1;
        };
    }
    with_all_sets!(check());
    assert_eq!(pairs, 32 * 5);
}

#[test]
fn values_become_types_if_they_have_all_the_rights() {
    let all_values: Vec<_> = all_sets().into_iter().map(|set| set.0).collect();
    let mut pairs = 0;
    macro_rules! check {
        (() ; $($set:tt)*) => { $(for &value in &all_values {
            type S = TRights! $set;
            let needed = Rights::from(TRightSet::<S>::new());
            let expected = match value.contains(needed) {
                true => Ok(TRightSet::<S>::new()),
                false => Err(MissingRights::new(needed - value)),
            };
            assert_eq!(value.require::<S>(), expected);
            assert_eq!(TRightSet::<S>::try_from(value), expected);
            pairs += 1;
        })* };
    }
    with_all_sets!(check());
    assert_eq!(pairs, 32 * 32);
}

#[test]
fn types_become_values_and_come_back() {
    macro_rules! check {
        (() ; $($set:tt)*) => { $({
            type S = TRights! $set;
            let typed = TRightSet::<S>::new();
            assert_eq!(Rights::from(typed).bits(), <S as FlagSet>::BITS);
            assert_eq!(typed.rights(), Rights::from(typed));
            assert_eq!(typed.rights().rights(), typed.rights());
            assert_eq!(TRightSet::<S>::try_from(Rights::from(typed)), Ok(typed));
        })* };
    }
    with_all_sets!(check());
}

#[test]
fn sets_in_a_capability_take_no_memory() {
    macro_rules! check {
        (() ; $($set:tt)*) => { $(
            assert_eq!((size_of::<TRights! $set>(), size_of::<TRightSet<TRights! $set>>()), (0, 0));
            assert_eq!(size_of::<(u64, TRightSet<TRights! $set>)>(), size_of::<u64>());
        )* };
    }
    with_all_sets!(check());
}

#[test]
fn full_rights_are_all_there_are() {
    assert_eq!(Rights::from(TRightSet::<FullRights>::new()), Rights::all());
    assert_eq!(TypeId::of::<FullRights>(), TypeId::of::<TRights![Signal, Exec, Write, Read, Dup]>());
}

#[test]
fn the_order_of_rights_does_not_matter() {
    /// Compiles only if the compiler sees one type.
    fn same<S>(_one: TRightSet<S>, _other: TRightSet<S>) {}

    type ReadWrite = TRights![Read, Write];
    type All = TRights![Exec, Write, Read];
    type Joined = <TRights![Exec] as TRights>::Union<TRights![Write, Read]>;
    same(TRightSet::<ReadWrite>::new(), TRightSet::<TRights![Write, Read]>::new());
    same(TRightSet::<ReadWrite>::new(), TRightSet::<TRights![Write, Read, Write]>::new());
    same(TRightSet::<ReadWrite>::new(), TRightSet::<All>::new().restrict());
    same(TRightSet::<All>::new(), TRightSet::<Joined>::new());
}
