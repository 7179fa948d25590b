// SPDX-License-Identifier: MPL-2.0

//! Every combination of what bounds a mapping.
//!
//! A combination is a number: each of its bits is one word of the terms, and a grid is the set of bits that vary while the others
//! stay as they are. All bits together would be 2^34 combinations. Those of the handle, of the ceiling and of what is
//! wanted for later only count where they agree, which is checked by itself; that leaves 2^27 that are all looked at.

mod account;

use aster_rights::Rights;

use self::account::account;
use super::*;
use crate::error::Error;

/// How many combinations of a grid are looked at: all of them, but under miri, where each takes its time.
const MOST: u64 = if cfg!(miri) { 100 } else { 1 << 34 };

/// How far it is from one combination to the next: so far, where some are left out, that all bits vary.
const STEP: u64 = if cfg!(miri) { 0x9e37_79b9_7f4a_7c15 } else { 1 };

/// Bits of a number, and where they are.
#[derive(Clone, Copy)]
struct Field {
    at: u32,
    width: u32,
}

impl Field {
    const fn mask(self) -> u64 {
        ((1 << self.width) - 1) << self.at
    }

    const fn of(self, combination: u64) -> u64 {
        (combination & self.mask()) >> self.at
    }
}

const HANDLE: Field = Field { at: 0, width: 3 };
const CEILING: Field = Field { at: 3, width: 3 };
const OBJECT: Field = Field { at: 6, width: 3 };
const ACCESS: Field = Field { at: 9, width: 3 };
const LATER: Field = Field { at: 12, width: 3 };
const CAPABILITIES: Field = Field { at: 15, width: 6 };
const OPERATIONS: Field = Field { at: 21, width: 3 };
const STATE: Field = Field { at: 24, width: 6 };
const SHARED: Field = Field { at: 30, width: 1 };
const IMPLIES: Field = Field { at: 31, width: 1 };
const TRACED: Field = Field { at: 32, width: 1 };
const FLAT: Field = Field { at: 33, width: 1 };
const ALL: u64 = (1 << 34) - 1;
/// Everybody has all rights; what is asked for varies, and all that concerns the backing.
const FILE: u64 = ALL & !(HANDLE.mask() | CEILING.mask() | OBJECT.mask() | LATER.mask());
/// A capability of which nothing here depends.
const NO_WRITEBACK: u64 = 1 << CAPABILITIES.at;

fn rights(bits: u64) -> Rights {
    [(1, Rights::READ), (2, Rights::WRITE), (4, Rights::EXEC)]
        .into_iter()
        .filter(|(bit, _)| bits & bit != 0)
        .fold(Rights::empty(), |all, (_, right)| all | right)
}

/// Returns what a number stands for.
fn terms(combination: u64) -> Terms {
    let access = VmPerms::from_bits_truncate(ACCESS.of(combination) as u8);
    let later = VmPerms::from_bits_truncate(LATER.of(combination) as u8).to_may();
    let pick = |field: Field, choice: [_; 2]| choice[field.of(combination) as usize];
    Terms {
        handle: rights(HANDLE.of(combination)),
        ceiling: rights(CEILING.of(combination)),
        object: rights(OBJECT.of(combination)),
        backing: Some(Backing {
            capabilities: Capabilities::from_bits_truncate(CAPABILITIES.of(combination) as u8),
            operations: Operations::from_bits_truncate(OPERATIONS.of(combination) as u8),
            state: FileState::from_bits_truncate(STATE.of(combination) as u8),
        }),
        sharing: [Sharing::Private, Sharing::Shared][SHARED.of(combination) as usize],
        wanted: access | later,
        personality: [Personality::Usual, Personality::ReadImpliesExec][IMPLIES.of(combination) as usize],
        tracing: [Tracing::Untraced, Tracing::Traced][TRACED.of(combination) as usize],
        addressing: pick(FLAT, [Addressing::Translated, Addressing::Flat]),
    }
}

/// Calls `check` with each combination of the bits in `varying`; the others are those of `fixed`. Returns how many there were.
fn for_all(varying: u64, fixed: u64, mut check: impl FnMut(&Terms)) -> u64 {
    let count = combinations(varying);
    let step = deposit(STEP, varying);
    let mut bits = 0;
    for _ in 0..count {
        check(&terms(bits | (fixed & !varying)));
        // The carry of the sum runs through the bits that do not vary.
        bits = (bits | !varying).wrapping_add(step) & varying;
    }
    count
}

/// Puts the low bits of `value` where `mask` has bits.
fn deposit(mut value: u64, mut mask: u64) -> u64 {
    let mut deposited = 0;
    while mask != 0 {
        let lowest = mask.isolate_lowest_one();
        if value & 1 != 0 {
            deposited |= lowest;
        }
        (value, mask) = (value >> 1, mask & !lowest);
    }
    deposited
}

/// Returns how many combinations `for_all` looks at.
fn combinations(varying: u64) -> u64 {
    (1_u64 << varying.count_ones()).min(MOST)
}

/// What a file that is open for everything, and can do everything, is asked.
fn usual() -> Terms {
    Terms { backing: Some(Backing::MEMORY), ..terms(ALL & !(IMPLIES.mask() | TRACED.mask() | FLAT.mask())) }
}

fn backing(terms: &Terms) -> Backing {
    terms.backing.unwrap()
}

fn asks(terms: &Terms, access: VmPerms) -> bool {
    terms.wanted.contains(access)
}

fn is(terms: &Terms, state: FileState) -> bool {
    backing(terms).state.contains(state)
}

fn is_shared(terms: &Terms) -> bool {
    terms.sharing == Sharing::Shared
}

fn refuses(result: Result<Plan, Error>, refusal: Refusal) -> bool {
    result == Err(Error::Refused(refusal))
}

/// Returns whether nothing about the way in which the file was opened stands in the way.
fn is_admitted(terms: &Terms) -> bool {
    let admitted = Terms {
        backing: Some(Backing { state: backing(terms).state, ..Backing::MEMORY }),
        wanted: terms.wanted,
        ..*terms
    };
    negotiate(&admitted).is_ok() || refuses(negotiate(&admitted), Refusal::Sealed)
}

#[test]
fn n2_to_n7_and_n14_agree_with_a_second_account_in_every_combination() {
    let once = ALL & !(CEILING.mask() | LATER.mask() | NO_WRITEBACK);
    let count = for_all(once, ALL, |terms| assert_eq!(negotiate(terms), account(terms), "{terms:?}"));
    assert_eq!(count, combinations(once));

    // What is left out above: the three that only count where they agree.
    let agreeing = HANDLE.mask()
        | CEILING.mask()
        | LATER.mask()
        | OBJECT.mask()
        | ACCESS.mask()
        | SHARED.mask()
        | FLAT.mask();
    for_all(
        agreeing | IMPLIES.mask() | 0b111 << (CAPABILITIES.at + 3),
        ALL & !STATE.mask() | 3 << STATE.at,
        |terms| {
            assert_eq!(negotiate(terms), account(terms), "{terms:?}");
            let common = terms.handle & terms.ceiling & rights((terms.wanted.bits() >> 4).into());
            let wanted = terms.wanted | VmPerms::MAY;
            let collapsed = Terms { handle: common, ceiling: Rights::all(), wanted, ..*terms };
            assert_eq!(negotiate(terms), negotiate(&collapsed), "{terms:?}");
        },
    );
    // And that nothing depends on NO_WRITEBACK.
    for_all(FILE & !NO_WRITEBACK, ALL, |terms| {
        let mut other = *terms;
        other.backing.as_mut().unwrap().capabilities -= Capabilities::NO_WRITEBACK;
        assert_eq!(negotiate(terms), negotiate(&other), "{terms:?}");
    });
}

#[test]
fn n2_what_cannot_be_mapped_is_refused_for_that() {
    for_all(FILE, ALL, |terms| {
        let cannot = !backing(terms).operations.contains(Operations::MAP);
        let is_refused = refuses(negotiate(terms), Refusal::NotMappable);
        assert!(!is_refused || cannot, "{terms:?}");
        if cannot {
            // Only how it was opened, and the mount, have a say before.
            assert_eq!(is_refused, is_admitted(terms), "{terms:?}");
        }
    });
    let unmappable = Backing::unmappable(FileState::READABLE | FileState::WRITABLE);
    assert!(refuses(negotiate(&Terms { backing: Some(unmappable), ..usual() }), Refusal::NotMappable));
}

#[test]
fn n3_capabilities_are_lost_with_the_operations_that_carry_them() {
    // Six flags, and six bits.
    assert_eq!(Capabilities::all().bits().count_ones(), 6);
    assert_eq!(Capabilities::all().iter().count(), 6);
    for_all(FILE, ALL, |terms| {
        let Backing { capabilities, operations, .. } = backing(terms);
        let mut left = capabilities;
        if !operations.contains(Operations::LOCATE) {
            left -= Capabilities::MAP_DIRECT;
        }
        if !operations.contains(Operations::READ) {
            left -= Capabilities::MAP_COPY;
        }
        assert_eq!(backing(terms).effective(), left);
        let mut poorer = *terms;
        poorer.backing.as_mut().unwrap().capabilities = left;
        assert_eq!(negotiate(terms), negotiate(&poorer), "{terms:?}");
        let method = negotiate(terms).map(|plan| plan.method);
        if !operations.contains(Operations::LOCATE) {
            assert!(!matches!(method, Ok(Method::Direct | Method::CopyOnWrite)), "{terms:?}");
        }
        if !operations.contains(Operations::READ) {
            assert!(!matches!(method, Ok(Method::CopyIn | Method::CopyOnWrite)), "{terms:?}");
        }
    });
}

#[test]
fn n4_shared_mappings_want_a_file_open_for_that_and_are_direct() {
    for_all(FILE & !SHARED.mask(), ALL, |terms| {
        let result = negotiate(terms);
        let writes = asks(terms, VmPerms::WRITE);
        let (writable, append_only) = (is(terms, FileState::WRITABLE), is(terms, FileState::APPEND_ONLY));
        assert_eq!(refuses(result, Refusal::NotWritable), writes && !writable, "{terms:?}");
        if writable && append_only {
            assert!(refuses(result, Refusal::AppendOnly), "{terms:?}");
        } else if is(terms, FileState::LOCKED) && !(writes && !writable) {
            assert!(refuses(result, Refusal::Locked), "{terms:?}");
        }
        let Backing { operations, .. } = backing(terms);
        let capabilities = backing(terms).effective();
        if is_admitted(terms) && operations.contains(Operations::MAP) {
            let is_direct = capabilities.contains(Capabilities::MAP_DIRECT);
            assert_eq!(refuses(result, Refusal::NotDirect), !is_direct, "{terms:?}");
            let goes_beyond = [
                (VmPerms::READ, Capabilities::READ_MAP),
                (VmPerms::WRITE, Capabilities::WRITE_MAP),
                (VmPerms::EXEC, Capabilities::EXEC_MAP),
            ]
            .iter()
            .any(|(access, capability)| asks(terms, *access) && !capabilities.contains(*capability));
            assert_eq!(refuses(result, Refusal::BeyondCapabilities), is_direct && goes_beyond, "{terms:?}");
        }
        if let Ok(plan) = result {
            assert_eq!(plan.method, Method::Direct, "a copy that is shared: {terms:?}");
            if plan.perms.contains(VmPerms::MAY_WRITE) {
                assert!(writable && !append_only && !is(terms, FileState::SEALED), "{terms:?}");
            }
        }
    });
}

#[test]
fn n5_private_mappings_want_copies_and_written_ones_are_copies() {
    for_all(FILE & !SHARED.mask(), ALL & !SHARED.mask(), |terms| {
        let result = negotiate(terms);
        if is_admitted(terms) && backing(terms).operations.contains(Operations::MAP) {
            let cannot = !backing(terms).effective().contains(Capabilities::MAP_COPY);
            assert_eq!(refuses(result, Refusal::NotCopyable), cannot, "{terms:?}");
        }
        let Ok(plan) = result else { return };
        let can_be_written = plan.perms.contains(VmPerms::MAY_WRITE);
        assert!(!can_be_written || plan.method != Method::Direct, "{terms:?}");
        if asks(terms, VmPerms::WRITE) {
            assert!(can_be_written && plan.region == Region::Own, "{terms:?}");
        }
    });
}

#[test]
fn n6_execution_is_as_mount_and_capabilities_have_it() {
    let (mut copied, mut implied) = (0, 0);
    for_all(FILE, ALL, |terms| {
        let result = negotiate(terms);
        let (reads, executes) = (asks(terms, VmPerms::READ), asks(terms, VmPerms::EXEC));
        let no_exec = is(terms, FileState::NO_EXEC);
        let capabilities = backing(terms).effective();
        if executes && no_exec {
            let earlier = [Refusal::NotWritable, Refusal::AppendOnly, Refusal::Locked, Refusal::NotReadable];
            let is_earlier = earlier.iter().any(|refusal| refuses(result, *refusal));
            assert!(is_earlier || refuses(result, Refusal::NoExec), "{terms:?}");
        } else {
            assert!(!refuses(result, Refusal::NoExec), "{terms:?}");
        }
        let Ok(plan) = result else { return };
        assert!(!no_exec || !plan.perms.contains(VmPerms::MAY_EXEC), "{terms:?}");
        let can = capabilities.contains(Capabilities::EXEC_MAP);
        let implies = terms.personality == Personality::ReadImpliesExec;
        let expected = executes || (reads && implies && can && !no_exec);
        assert_eq!(plan.perms.contains(VmPerms::EXEC), expected, "{terms:?}");
        implied += u32::from(expected && !executes);
        if reads && executes && !can {
            assert_eq!(plan.method, Method::CopyIn, "{terms:?}");
            copied += 1;
        }
    });
    assert!(cfg!(miri) || (copied > 0 && implied > 0));
}

#[test]
fn n7_anonymous_memory_is_zeros_of_its_own() {
    let others = HANDLE.mask() | CEILING.mask() | LATER.mask() | ACCESS.mask();
    let varying = others | SHARED.mask() | IMPLIES.mask() | TRACED.mask() | FLAT.mask();
    for_all(varying, ALL, |terms| {
        let terms = Terms { backing: None, ..*terms };
        assert_eq!(negotiate(&terms), account(&terms), "{terms:?}");
        if let Ok(plan) = negotiate(&terms) {
            assert_eq!((plan.method, plan.region), (Method::Zeros, Region::Own), "{terms:?}");
        }
    });
}

#[test]
fn n9_what_a_debugger_may_write_is_nobody_elses() {
    for_all(FILE & !TRACED.mask(), ALL, |terms| {
        let Ok(plan) = negotiate(terms) else { return };
        let is_flat = terms.addressing == Addressing::Flat;
        if !is_shared(terms) {
            assert_eq!(plan.region, Region::Own, "{terms:?}");
            assert!(!is_flat || plan.method == Method::CopyIn, "{terms:?}");
        }
    });
}

#[test]
fn n10_what_a_driver_declines_is_copied_if_private_and_copyable() {
    let mut copied = 0;
    for_all(FILE, ALL, |terms| {
        let Ok(plan) = negotiate(terms) else { return };
        if plan.method == Method::CopyIn {
            return;
        }
        let declined = negotiate_declined(terms);
        if is_shared(terms) {
            assert!(refuses(declined, Refusal::NotDirect), "{terms:?}");
        } else {
            assert_eq!(declined.map(|plan| plan.method), Ok(Method::CopyIn), "{terms:?}");
            copied += 1;
        }
    });
    assert!(cfg!(miri) || copied > 0);
}

#[test]
fn n14_may_bits_of_what_is_shown_are_the_capabilities() {
    let state = FileState::READABLE | FileState::WRITABLE;
    let varying = CAPABILITIES.mask() | SHARED.mask() | FLAT.mask() | TRACED.mask() | IMPLIES.mask();
    for_all(varying, ALL & !ACCESS.mask(), |terms| {
        let terms = Terms { backing: Some(Backing { state, ..backing(terms) }), ..*terms };
        let Ok(plan) = negotiate(&terms) else { return };
        let capable = backing(&terms).capabilities;
        let shown = plan.method != Method::CopyIn;
        let may = |bit| plan.perms.contains(bit);
        assert_eq!(may(VmPerms::MAY_READ), !shown || capable.contains(Capabilities::READ_MAP), "{terms:?}");
        assert_eq!(may(VmPerms::MAY_EXEC), !shown || capable.contains(Capabilities::EXEC_MAP), "{terms:?}");
        let writes = match (is_shared(&terms), plan.region) {
            (true, _) => capable.contains(Capabilities::WRITE_MAP),
            (false, Region::Own) => true,
            (false, Region::Shared) => false,
        };
        assert_eq!(may(VmPerms::MAY_WRITE), writes, "{terms:?}");
    });
}

#[test]
fn b4_withdrawing_leaves_what_would_have_been_given_without_the_right() {
    let varying = OBJECT.mask() | ACCESS.mask() | LATER.mask() | SHARED.mask();
    for lost in (0..8).map(rights) {
        for_all(varying, ALL & !IMPLIES.mask() & !TRACED.mask() & !FLAT.mask(), |some| {
            let terms = Terms { backing: Some(Backing::MEMORY), ..*some };
            let Ok(Plan { perms, .. }) = negotiate(&terms) else { return };
            let asks_for_nothing = terms.wanted - VmPerms::ACCESS;
            let less = Terms { object: terms.object - lost, wanted: asks_for_nothing, ..terms };
            let may = negotiate(&less).map_or(VmPerms::empty(), |plan| plan.perms);
            let left = perms & (may | may.from_may());
            assert_eq!(withdraw(perms, terms.sharing, lost), left, "{terms:?} without {lost:?}");
        });
    }
}

#[test]
fn v5_may_mask_is_the_intersection_in_every_combination() {
    let direct = 0b111 << (CAPABILITIES.at + 3);
    let varying = HANDLE.mask() | CEILING.mask() | OBJECT.mask() | LATER.mask() | SHARED.mask() | direct;
    let fixed = Terms { backing: Some(Backing::MEMORY), ..usual() };
    let count = for_all(varying, ALL & !ACCESS.mask(), |some| {
        let state = FileState::READABLE | FileState::WRITABLE;
        let terms = Terms {
            backing: Some(Backing { state, ..backing(some) }),
            personality: fixed.personality,
            tracing: fixed.tracing,
            addressing: fixed.addressing,
            ..*some
        };
        let result = negotiate(&terms);
        if !terms.object.contains(Rights::READ) {
            assert_eq!(result, Err(Error::AccessDenied), "{terms:?}");
            return;
        }
        let may = result.unwrap().perms;
        for (right, bit, capability) in [
            (Rights::READ, VmPerms::MAY_READ, Capabilities::READ_MAP),
            (Rights::WRITE, VmPerms::MAY_WRITE, Capabilities::WRITE_MAP),
            (Rights::EXEC, VmPerms::MAY_EXEC, Capabilities::EXEC_MAP),
        ] {
            let is_copied = right == Rights::WRITE && !is_shared(&terms);
            let by_space = terms.handle.contains(right) && terms.ceiling.contains(right);
            let by_object = is_copied || terms.object.contains(right);
            let by_backing = is_copied || backing(&terms).capabilities.contains(capability);
            let expected = by_space && by_object && by_backing && terms.wanted.contains(bit);
            assert_eq!(may.contains(bit), expected, "{right:?} of {terms:?}");
        }
    });
    assert_eq!(count, combinations(varying));
}

#[test]
fn v4_rights_of_an_object_bound_what_its_mappings_may_do() {
    for object in (0..8).map(rights) {
        for sharing in [Sharing::Private, Sharing::Shared] {
            let result = negotiate(&Terms { object, sharing, wanted: VmPerms::MAY, ..usual() });
            let Ok(Plan { perms: may, .. }) = result else {
                assert!(!object.contains(Rights::READ));
                continue;
            };
            let writable = sharing == Sharing::Private || object.contains(Rights::WRITE);
            assert_eq!(may.contains(VmPerms::MAY_WRITE), writable);
            assert_eq!(may.contains(VmPerms::MAY_EXEC), object.contains(Rights::EXEC));
        }
    }
}
