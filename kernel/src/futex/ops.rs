// SPDX-License-Identifier: MPL-2.0

//! Operations on two futexes: moving waiters from one to the other, and waking on both.

use linux_raw_sys::general::{
    FUTEX_OP_ADD, FUTEX_OP_ANDN, FUTEX_OP_CMP_EQ, FUTEX_OP_CMP_GE, FUTEX_OP_CMP_GT, FUTEX_OP_CMP_LE,
    FUTEX_OP_CMP_LT, FUTEX_OP_CMP_NE, FUTEX_OP_OPARG_SHIFT, FUTEX_OP_OR, FUTEX_OP_SET, FUTEX_OP_XOR,
};

use super::{
    BUCKETS, Bucket, Key, Locked, Scope,
    word::{self, Use, with_words},
};
use crate::{mm::AddressSpace, prelude::*};

/// The buckets of two keys, both locked.
pub(super) struct Pair {
    pub(super) first: Locked,
    /// None if both keys have the same bucket.
    second: Option<Locked>,
}

impl Pair {
    pub(super) fn lock(first: &Key, second: &Key) -> Self {
        let (first, second) = (first.hash() % BUCKETS, second.hash() % BUCKETS);
        match first.cmp(&second) {
            core::cmp::Ordering::Equal => Self { first: Locked::at(first), second: None },
            core::cmp::Ordering::Less => {
                let lower = Locked::at(first);
                Self { first: lower, second: Some(Locked::at(second)) }
            }
            core::cmp::Ordering::Greater => {
                let lower = Locked::at(second);
                Self { first: Locked::at(first), second: Some(lower) }
            }
        }
    }

    pub(super) fn second(&mut self) -> &mut Bucket {
        self.second.as_mut().unwrap_or(&mut self.first)
    }
}

/// What the first word must be for waiters to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareRequeue {
    /// Anything (`FUTEX_REQUEUE`).
    Anything,
    /// This (`FUTEX_CMP_REQUEUE`).
    Value(u32),
}

/// Wakes at most `wakes` waiters on the word at `from` and has at most `moves` others wait on the one at `to` instead.
/// Answers how many that were together.
///
/// # Errors
///
/// `EAGAIN` if the first word is not as expected; `EINVAL` if somebody waits for a lock there; `EFAULT`; `ENOMEM`.
pub fn requeue(
    vm: &AddressSpace,
    (from, to): (Vaddr, Vaddr),
    scope: Scope,
    (wakes, moves): (usize, usize),
    expected: CompareRequeue,
) -> Result<usize> {
    let from_key = Key::of(vm, from, scope)?;
    let to_key = Key::of(vm, to, scope)?;
    let mut pair = with_words(vm, &[(from, Use::Read)], || {
        let pair = Pair::lock(&from_key, &to_key);
        match expected {
            CompareRequeue::Value(expected) if word::load(vm, from)? != expected => Err(EAGAIN),
            _ => Ok(pair),
        }
    })?;
    let waiting = pair.first.waiters.len();
    pair.second().reserve(waiting)?;
    let mut moved = try_with_capacity(waiting.min(moves))?;
    let woken = pair.first.wake(&from_key, wakes, u32::MAX)?;
    let (count, stopped) = pair.first.take(&from_key, moves, u32::MAX, |waiter| moved.push(waiter));
    for waiter in moved {
        *waiter.key.lock() = to_key.clone();
        pair.second().waiters.push_back(waiter);
    }
    stopped.map(|()| woken + count)
}

/// A change of a word, and a condition on what it was (`FUTEX_WAKE_OP`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WakeOp {
    operation: u32,
    operand: u32,
    comparison: u32,
    compared: i32,
}

impl WakeOp {
    /// The operation that a program has encoded.
    ///
    /// # Errors
    ///
    /// `ENOSYS` for an operation or comparison that there is not.
    pub fn decode(encoded: u32) -> Result<Self> {
        let signed = |bits: u32| ((bits << 20) as i32) >> 20;
        let operation = encoded >> 28 & 7;
        let comparison = encoded >> 24 & 15;
        let mut operand = signed(encoded >> 12 & 0xfff) as u32;
        if encoded >> 28 & FUTEX_OP_OPARG_SHIFT != 0 {
            operand = 1 << (operand & 31);
        }
        if operation > FUTEX_OP_XOR || comparison > FUTEX_OP_CMP_GE {
            return Err(ENOSYS);
        }
        Ok(Self { operation, operand, comparison, compared: signed(encoded & 0xfff) })
    }

    /// What the word becomes.
    fn apply(&self, word: u32) -> u32 {
        match self.operation {
            FUTEX_OP_SET => self.operand,
            FUTEX_OP_ADD => word.wrapping_add(self.operand),
            FUTEX_OP_OR => word | self.operand,
            FUTEX_OP_ANDN => word & !self.operand,
            _ => word ^ self.operand,
        }
    }

    /// Whether what the word was satisfies the condition.
    fn holds(&self, word: u32) -> bool {
        let word = word as i32;
        match self.comparison {
            FUTEX_OP_CMP_EQ => word == self.compared,
            FUTEX_OP_CMP_NE => word != self.compared,
            FUTEX_OP_CMP_LT => word < self.compared,
            FUTEX_OP_CMP_LE => word <= self.compared,
            FUTEX_OP_CMP_GT => word > self.compared,
            _ => word >= self.compared,
        }
    }
}

/// Changes the second word, wakes at most `max.0` waiters on the first, and at most `max.1` on the second if its old value
/// satisfies the condition. Answers how many were woken.
///
/// # Errors
///
/// `EFAULT`; `EINVAL`.
pub fn wake_op(
    vm: &AddressSpace,
    (first, second): (Vaddr, Vaddr),
    scope: Scope,
    max: (usize, usize),
    op: WakeOp,
) -> Result<usize> {
    let first_key = Key::of(vm, first, scope)?;
    let second_key = Key::of(vm, second, scope)?;
    let (mut pair, old) = with_words(vm, &[(second, Use::Change)], || {
        let pair = Pair::lock(&first_key, &second_key);
        let old = word::update(vm, second, |word| Some(op.apply(word)))?;
        Ok((pair, old))
    })?;
    let mut woken = pair.first.wake(&first_key, max.0, u32::MAX)?;
    if op.holds(old) {
        woken += pair.second().wake(&second_key, max.1, u32::MAX)?;
    }
    Ok(woken)
}

#[cfg(ktest)]
mod test {
    use ostd::prelude::ktest;

    use super::*;

    fn encode(operation: u32, operand: u32, comparison: u32, compared: u32) -> u32 {
        operation << 28 | comparison << 24 | (operand & 0xfff) << 12 | compared & 0xfff
    }

    #[ktest]
    fn operands_have_signs_and_may_be_shifts() {
        let op = WakeOp::decode(encode(FUTEX_OP_ADD, 0xfff, FUTEX_OP_CMP_LT, 0xffe));
        assert_eq!(
            op.map(|op| (op.apply(5), op.holds(u32::MAX - 2), op.holds(u32::MAX))),
            Ok((4, true, false))
        );
        let op = WakeOp::decode(encode(FUTEX_OP_OPARG_SHIFT | FUTEX_OP_OR, 33, FUTEX_OP_CMP_EQ, 0));
        assert_eq!(op.map(|op| op.apply(1)), Ok(3));
    }

    #[ktest]
    fn what_there_is_not_is_refused() {
        assert_eq!(WakeOp::decode(encode(5, 0, 0, 0)), Err(ENOSYS));
        assert_eq!(WakeOp::decode(encode(0, 0, 6, 0)), Err(ENOSYS));
    }
}
