// SPDX-License-Identifier: MPL-2.0

//! Who called whom: call stacks made from the order in which blocks were executed.
//!
//! ```text
//! call at S ──► a frame is noted under S, the place of its return address on the stack
//! return from S ──► the frame noted under S says who goes on
//! ```
//!
//! Since frames are found by their place, a change of stacks (another task, another process) needs no notice: the
//! next return is from a place on the other stack. A frame counts only if the return goes where it says; one that was
//! pushed while no window was open is unknown, and its function has no callers.
//!
//! Exactness: how many instructions each function executed itself is exact. Callers are those of the shadow stack; a
//! function that another one jumped to, instead of calling it, stands beside it.
//!
//! QEMU's clock does not count an instruction that ended in a fault; it counts when it is tried again. The plugin sees
//! both, and the first one is taken off here.

use std::collections::{BTreeSet, HashMap};

use super::trace::{Block, Flow, Run, Trace, Window};

/// A stack of calls, by its number; equal stacks have equal numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stack(u32);

impl Stack {
    /// Nobody called.
    pub const EMPTY: Self = Self(0);
}

/// Instructions of one block, executed with one stack of callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    pub stack: Stack,
    pub block: u32,
    /// Index of the first instruction.
    pub first: u16,
    /// Number of instructions.
    pub count: u16,
}

/// How often which code was executed, called by whom.
#[derive(Default)]
pub struct Samples {
    /// What each stack adds to which; the first is the empty one.
    stacks: Vec<(Stack, u64)>,
    numbers: HashMap<(Stack, u64), Stack>,
    /// How often.
    pub places: HashMap<Place, u64>,
}

impl Samples {
    /// Follows the windows of a trace, and counts from the `first` one on. From those before it only the stacks that
    /// they leave behind are of interest.
    pub fn new(trace: &Trace, windows: &[&Window], first: usize) -> Self {
        let mut walk = Walk {
            trace,
            entries: Entries::new(trace, windows),
            frames: HashMap::new(),
            stopped: Vec::new(),
        };
        let mut samples = Self { stacks: vec![(Stack::EMPTY, 0)], ..Self::default() };
        for (index, window) in windows.iter().enumerate() {
            if index == first {
                samples.places.clear();
            }
            walk.follow(window, &mut samples);
        }
        samples
    }

    /// The addresses of the calls on a stack, the innermost first.
    pub fn calls(&self, stack: Stack) -> impl Iterator<Item = u64> {
        let mut stack = stack;
        std::iter::from_fn(move || {
            let (below, call) = self.stacks[stack.0 as usize];
            let is_empty = stack == Stack::EMPTY;
            stack = below;
            (!is_empty).then_some(call)
        })
    }

    fn push(&mut self, below: Stack, call: u64) -> Stack {
        let next = Stack(self.stacks.len() as u32);
        let stack = *self.numbers.entry((below, call)).or_insert(next);
        if stack == next {
            self.stacks.push((below, call));
        }
        stack
    }

    fn add(&mut self, stack: Stack, run: &Run, count: u16, times: u64) {
        if count > 0 && times > 0 {
            let place = Place { stack, block: run.block, first: run.first, count };
            *self.places.entry(place).or_default() += times;
        }
    }
}

/// Addresses at which the kernel is entered without the code having asked for it.
#[derive(Default)]
struct Entries {
    /// By faults: the instruction that caused it did not happen.
    faults: BTreeSet<u64>,
    /// By faults, traps and interrupts.
    all: BTreeSet<u64>,
}

impl Entries {
    fn new(trace: &Trace, windows: &[&Window]) -> Self {
        let mut entries = Self::default();
        for pair in windows.iter().flat_map(|window| window.runs.windows(2)) {
            let next = trace.block(&pair[1]).address();
            let exit = Exit::new(&pair[0], trace.block(&pair[0]), next);
            if exit == Exit::Fault {
                entries.faults.insert(next);
            }
            if matches!(exit, Exit::Fault | Exit::Stop) {
                entries.all.insert(next);
            }
        }
        entries
    }
}

/// How a block was left for another one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// By what its last instruction does.
    AsItSays,
    /// Perhaps by that; the code does not say where it leads.
    AsItMaySay,
    /// Before its last instruction, for the next one. QEMU gives up an instruction that it has looked at already where
    /// that one reaches into the next page.
    Early,
    /// By an exception before the end: its last instruction that was started did not happen.
    Fault,
    /// Behind its end, by an exception or an interrupt.
    Stop,
}

impl Exit {
    fn new(run: &Run, block: &Block, next: u64) -> Self {
        let done = usize::from(run.first + run.count);
        if done < block.instructions() {
            return if next == block.instruction(done) { Self::Early } else { Self::Fault };
        }
        let is_foreseen = match block.flow {
            // A repeated string instruction is left for itself.
            Flow::Next => next == block.end() || next == block.instruction(done - 1),
            Flow::Jump(target) | Flow::Call(Some(target)) => next == target,
            Flow::Branch(target) => next == target || next == block.end(),
            Flow::Call(None) | Flow::Return | Flow::InterruptReturn | Flow::Anywhere => {
                return Self::AsItMaySay;
            }
        };
        if is_foreseen { Self::AsItSays } else { Self::Stop }
    }
}

/// Who goes on after a return.
struct Frame {
    caller: Stack,
    resumes_at: u64,
}

/// Code of the kernel that an exception or an interrupt has stopped.
struct Stopped {
    /// The instruction it stopped at, and the one after that.
    at: [u64; 2],
    stack: Stack,
}

struct Walk<'a> {
    trace: &'a Trace,
    entries: Entries,
    frames: HashMap<u64, Frame>,
    stopped: Vec<Stopped>,
}

impl Walk<'_> {
    fn follow(&mut self, window: &Window, samples: &mut Samples) {
        let mut stack = Stack::EMPTY;
        for (index, run) in window.runs.iter().enumerate() {
            let block = self.trace.block(run);
            let next = window.runs.get(index + 1).map(|next| self.trace.block(next));
            let exit = next.map(|next| self.exit(run, block, next.address()));
            if exit == Some(Exit::Fault) {
                samples.add(stack, run, run.count, run.times - 1);
                samples.add(stack, run, run.count.saturating_sub(1), 1);
            } else {
                samples.add(stack, run, run.count, run.times);
            }
            let (Some(next), Some(exit)) = (next, exit) else { break };
            stack = match (block.is_kernel(), next.is_kernel()) {
                (true, true) => self.step(samples, stack, run, exit, next.address()),
                // The kernel starts afresh, and programs are not looked into.
                _ => Stack::EMPTY,
            };
        }
    }

    /// How a block was left, now that the places are known where exceptions and interrupts lead.
    fn exit(&self, run: &Run, block: &Block, next: u64) -> Exit {
        match Exit::new(run, block, next) {
            Exit::AsItMaySay | Exit::Stop if self.entries.faults.contains(&next) => Exit::Fault,
            Exit::AsItMaySay if self.entries.all.contains(&next) => Exit::Stop,
            exit => exit,
        }
    }

    /// The stack after a block, where the kernel goes on at an address of its own.
    fn step(&mut self, samples: &mut Samples, stack: Stack, run: &Run, exit: Exit, next: u64) -> Stack {
        let block = self.trace.block(run);
        let done = usize::from(run.first + run.count);
        let last = block.instruction(done - 1);
        match exit {
            Exit::Early => return stack,
            Exit::Fault | Exit::Stop => {
                self.stopped.push(Stopped { at: [last, block.instruction(done)], stack });
                return samples.push(stack, last);
            }
            Exit::AsItSays | Exit::AsItMaySay => {}
        }
        match block.flow {
            Flow::Call(_) => {
                self.frames.insert(run.slot, Frame { caller: stack, resumes_at: block.end() });
                samples.push(stack, last)
            }
            Flow::Return => match self.frames.remove(&run.slot) {
                Some(frame) if frame.resumes_at == next => frame.caller,
                _ => Stack::EMPTY,
            },
            Flow::InterruptReturn => {
                let stopped = self.stopped.iter().rposition(|stopped| stopped.at.contains(&next));
                stopped.map_or(Stack::EMPTY, |stopped| self.stopped.remove(stopped).stack)
            }
            Flow::Next | Flow::Jump(_) | Flow::Branch(_) | Flow::Anywhere => stack,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{
        super::trace::{
            CLOSE, OPEN, Trace, Window,
            made::{definition, record},
        },
        Samples,
    };

    const KERNEL: u64 = 0xffff_ffff_8000_0000;
    const RET: &[u8] = &[0xc3];
    const NOP_RET: &[u8] = &[0x90, 0xc3];
    const NOP_NOP: &[u8] = &[0x90, 0x90];
    const IRET: &[u8] = &[0x48, 0xcf];

    /// `call` of a function, at an address.
    fn call(at: u64, target: u64) -> Vec<u8> {
        let mut code = vec![0xe8];
        code.extend((target.wrapping_sub(at + 5) as u32).to_le_bytes());
        definition(at, 1, &code)
    }

    /// How many instructions were executed at which address, with which calls around, the innermost first.
    ///
    /// The runs are `block, count, slot`, in windows; the windows before `first` are not counted.
    fn follow(
        blocks: &[Vec<u8>],
        windows: &[&[(u32, u16, u64)]],
        first: usize,
    ) -> BTreeMap<(Vec<u64>, u64), u64> {
        let mut bytes = blocks.concat();
        for runs in windows {
            bytes.extend(record(OPEN, 0, 0, 0));
            for &(block, count, slot) in *runs {
                bytes.extend(record(block, 0, count, slot));
            }
            bytes.extend(record(CLOSE, 0, 0, 0));
        }
        let trace = Trace::parse(&bytes).unwrap();
        let windows: Vec<&Window> = trace.windows.iter().collect();
        let samples = Samples::new(&trace, &windows, first);
        let mut counts = BTreeMap::new();
        for (place, times) in &samples.places {
            let block = &trace.blocks[place.block as usize];
            for index in place.first..place.first + place.count {
                let calls = samples.calls(place.stack).map(|call| call - KERNEL).collect();
                *counts.entry((calls, block.instruction(index.into()) - KERNEL)).or_default() += times;
            }
        }
        counts
    }

    fn expect<const N: usize>(counts: [(&[u64], u64, u64); N]) -> BTreeMap<(Vec<u64>, u64), u64> {
        counts.into_iter().map(|(calls, address, times)| ((calls.to_vec(), address), times)).collect()
    }

    #[test]
    fn a_call_is_on_the_stack_until_its_return() {
        let blocks = [
            call(KERNEL, KERNEL + 0x100),
            definition(KERNEL + 0x100, 2, NOP_RET),
            definition(KERNEL + 5, 1, RET),
        ];
        let counts = follow(&blocks, &[&[(1, 1, 0x8000), (2, 2, 0x8000), (3, 1, 0x8008)]], 0);
        let expected = expect([(&[], 0, 1), (&[0], 0x100, 1), (&[0], 0x101, 1), (&[], 5, 1)]);
        assert_eq!(counts, expected);
    }

    #[test]
    fn a_return_on_another_stack_goes_on_with_that_one() {
        let blocks = [
            call(KERNEL, KERNEL + 0x100),        // the first task calls the switch
            call(KERNEL + 0x50, KERNEL + 0x100), // and so does the second one
            definition(KERNEL + 0x100, 2, NOP_RET),
            definition(KERNEL + 5, 1, RET),
            call(KERNEL + 0x20, KERNEL + 0x50),
        ];
        let runs =
            [(1, 1, 0x8000), (3, 2, 0x9999), (5, 1, 0x9008), (2, 1, 0x9000), (3, 2, 0x8000), (4, 1, 0x8008)];
        let counts = follow(&blocks, &[&runs], 0);
        assert_eq!(counts[&(vec![], 5)], 1, "the first task goes on where it had called");
        assert_eq!(counts[&(vec![0x50, 0x20], 0x100)], 1);
    }

    #[test]
    fn stacks_outlive_a_window_that_is_not_counted() {
        let blocks = [
            call(KERNEL, KERNEL + 0x100),
            call(KERNEL + 0x100, KERNEL + 0x200),
            definition(KERNEL + 0x200, 1, &[0x90]),
            definition(KERNEL + 0x201, 1, RET),
            definition(KERNEL + 0x105, 1, &[0x90]),
        ];
        let windows: [&[(u32, u16, u64)]; 2] =
            [&[(1, 1, 0x8000), (2, 1, 0x7ff8), (3, 1, 0)], &[(4, 1, 0x7ff8), (5, 1, 0)]];
        // Who called what the second window begins with is not known, but it returns to a known place.
        assert_eq!(follow(&blocks, &windows, 1), expect([(&[], 0x201, 1), (&[0], 0x105, 1)]));
    }

    #[test]
    fn a_return_to_elsewhere_has_no_callers() {
        let blocks = [
            call(KERNEL, KERNEL + 0x100),
            definition(KERNEL + 0x100, 1, RET),
            definition(KERNEL + 0x300, 1, RET),
        ];
        let counts = follow(&blocks, &[&[(1, 1, 0x8000), (2, 1, 0x8000), (3, 1, 0x8008)]], 0);
        assert_eq!(counts, expect([(&[], 0, 1), (&[0], 0x100, 1), (&[], 0x300, 1)]));
    }

    #[test]
    fn an_instruction_that_faults_counts_once_and_the_handler_is_called_by_it() {
        let blocks = [
            definition(KERNEL, 2, NOP_NOP),
            definition(KERNEL + 0x400, 1, IRET),
            definition(KERNEL + 1, 1, &[0x90]),
        ];
        // The first instruction faults, then the second one, which is tried again.
        let counts = follow(&blocks, &[&[(1, 1, 0), (2, 1, 0), (1, 2, 0), (2, 1, 0), (3, 1, 0)]], 0);
        let expected = expect([(&[], 0, 1), (&[], 1, 1), (&[0], 0x400, 1), (&[1], 0x400, 1)]);
        assert_eq!(counts, expected);
    }

    #[test]
    fn an_instruction_that_qemu_put_off_is_no_fault() {
        let blocks = [definition(KERNEL, 2, NOP_NOP), definition(KERNEL + 1, 1, RET)];
        let counts = follow(&blocks, &[&[(1, 1, 0), (2, 1, 0x8000)]], 0);
        assert_eq!(counts, expect([(&[], 0, 1), (&[], 1, 1)]));
    }

    #[test]
    fn an_interrupt_takes_nothing_off() {
        let blocks = [
            definition(KERNEL, 1, &[0x90]),
            definition(KERNEL + 0x500, 1, IRET),
            definition(KERNEL + 1, 1, RET),
        ];
        let counts = follow(&blocks, &[&[(1, 1, 0), (2, 1, 0), (3, 1, 0x8000)]], 0);
        assert_eq!(counts, expect([(&[], 0, 1), (&[0], 0x500, 1), (&[], 1, 1)]));
    }
}
