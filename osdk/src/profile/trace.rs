// SPDX-License-Identifier: MPL-2.0

//! What the plugin wrote down, read back: blocks of code, and in which order they were executed.
//!
//! `osdk/profile-plugin.c` says what is in the file. A block here has been decoded: where its instructions begin, and
//! where the processor goes after the last of them.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};

/// Where the processor goes after a block, as far as the code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// To the next instruction, or once more to the last one: a repeated string instruction.
    Next,
    /// To an address.
    Jump(u64),
    /// To an address or to the next instruction.
    Branch(u64),
    /// Into a function; where, if the code says so.
    Call(Option<u64>),
    /// Back to where a call came from.
    Return,
    /// Back to what an exception or an interrupt has stopped.
    InterruptReturn,
    /// Somewhere else: an indirect jump, a system call, the way back from it, an exception.
    Anywhere,
}

/// A piece of code without a branch in it.
#[derive(Debug)]
pub struct Block {
    /// Where its instructions begin, and after them where the last one ends.
    starts: Vec<u64>,
    /// Where it leads.
    pub flow: Flow,
}

impl Block {
    /// Where it begins.
    pub fn address(&self) -> u64 {
        self.starts[0]
    }

    /// The address behind its last instruction.
    pub fn end(&self) -> u64 {
        self.starts[self.instructions()]
    }

    /// Number of its instructions.
    pub fn instructions(&self) -> usize {
        self.starts.len() - 1
    }

    /// Where an instruction begins.
    pub fn instruction(&self, index: usize) -> u64 {
        self.starts[index]
    }

    /// Whether it is the kernel's.
    pub fn is_kernel(&self) -> bool {
        self.address() >> 63 == 1
    }

    fn decode(address: u64, instructions: usize, code: &[u8]) -> Result<Self> {
        let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
        let mut starts = vec![address];
        let mut last = Instruction::default();
        while decoder.can_decode() {
            decoder.decode_out(&mut last);
            starts.push(decoder.ip());
        }
        if starts.len() != instructions + 1 || instructions == 0 {
            bail!("the code at {address:#x} is {} instructions, not {instructions}", starts.len() - 1);
        }
        let flow = match (last.flow_control(), last.mnemonic()) {
            (_, Mnemonic::Syscall | Mnemonic::Sysret | Mnemonic::Sysretq) => Flow::Anywhere,
            (_, Mnemonic::Iret | Mnemonic::Iretd | Mnemonic::Iretq) => Flow::InterruptReturn,
            (FlowControl::Next, _) => Flow::Next,
            (FlowControl::UnconditionalBranch, _) => Flow::Jump(last.near_branch_target()),
            (FlowControl::ConditionalBranch, _) => Flow::Branch(last.near_branch_target()),
            (FlowControl::Call, _) => Flow::Call(Some(last.near_branch_target())),
            (FlowControl::IndirectCall, _) => Flow::Call(None),
            (FlowControl::Return, _) => Flow::Return,
            _ => Flow::Anywhere,
        };
        Ok(Self { starts, flow })
    }
}

/// A block, or a part of one, that was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Which block: an index into [`Trace::blocks`].
    pub block: u32,
    /// Index of the first instruction.
    pub first: u16,
    /// How many instructions were started.
    pub count: u16,
    /// Where on the stack the call or return at the end has the return address; 0 if that is unknown.
    pub slot: u64,
    /// How often this happened, one after the other.
    pub times: u64,
}

/// What was executed between an opening and a closing mark.
#[derive(Debug)]
pub struct Window {
    /// In this order.
    pub runs: Vec<Run>,
    /// How many instructions were started.
    pub instructions: u64,
}

/// All that the plugin wrote down.
#[derive(Debug, Default)]
pub struct Trace {
    pub blocks: Vec<Block>,
    pub windows: Vec<Window>,
}

const RECORD: usize = 16;
pub(super) const OPEN: u32 = 0xffff_ffff;
pub(super) const CLOSE: u32 = 0xffff_fffe;
const DEFINE: u32 = 0xffff_fffd;
const REPEAT: u32 = 0xffff_fffc;

impl Trace {
    /// Reads the file of a plugin; what comes behind the last closed window is left out.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is no trace.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).context("the trace cannot be read")?;
        Self::parse(&bytes).context("the trace is damaged")
    }

    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self> {
        let mut trace = Self::default();
        let mut runs = Vec::new();
        while let Some((record, rest)) = bytes.split_at_checked(RECORD) {
            bytes = rest;
            let block = u32::from_le_bytes([record[0], record[1], record[2], record[3]]);
            let first = u16::from_le_bytes([record[4], record[5]]);
            let count = u16::from_le_bytes([record[6], record[7]]);
            let extra = u64::from_le_bytes(record[8..].try_into()?);
            match block {
                OPEN => runs.clear(),
                CLOSE => trace.windows.push(Window { runs: std::mem::take(&mut runs), instructions: extra }),
                DEFINE => {
                    let length = usize::from(first);
                    let code = bytes.get(..length).context("code is missing")?;
                    trace.blocks.push(Block::decode(extra, count.into(), code)?);
                    bytes = bytes.get(length.next_multiple_of(RECORD)..).context("code is missing")?;
                }
                REPEAT => {
                    let last: &mut Run = runs.last_mut().context("there is nothing to repeat")?;
                    last.times += extra;
                }
                number => {
                    let block = number.checked_sub(1).filter(|&block| (block as usize) < trace.blocks.len());
                    let block = block.context("a block is unknown")?;
                    runs.push(Run { block, first, count, slot: extra, times: 1 });
                }
            }
        }
        Ok(trace)
    }

    /// The block that was executed in part or whole.
    pub fn block(&self, run: &Run) -> &Block {
        &self.blocks[run.block as usize]
    }
}

/// Traces to test with.
#[cfg(test)]
pub(super) mod made {
    use super::{DEFINE, RECORD};

    /// A record as the plugin writes it.
    pub fn record(block: u32, first: u16, count: u16, extra: u64) -> Vec<u8> {
        let mut bytes = block.to_le_bytes().to_vec();
        bytes.extend(first.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend(extra.to_le_bytes());
        bytes
    }

    /// The next block.
    pub fn definition(address: u64, instructions: u16, code: &[u8]) -> Vec<u8> {
        let mut bytes = record(DEFINE, code.len() as u16, instructions, address);
        bytes.extend(code);
        bytes.resize(bytes.len().next_multiple_of(RECORD), 0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::{
        CLOSE, DEFINE, Flow, OPEN, REPEAT, Run, Trace,
        made::{definition, record},
    };

    #[test]
    fn windows_hold_what_was_executed_in_them() {
        let bytes = [
            record(OPEN, 0, 0, 0),
            definition(0x1000, 2, &[0x90, 0xc3]), // nop; ret
            record(1, 1, 1, 0x7000),
            record(REPEAT, 0, 0, 2),
            record(CLOSE, 0, 0, 3),
            record(OPEN, 0, 0, 0),
            record(1, 0, 2, 0),
        ];
        let trace = Trace::parse(&bytes.concat()).unwrap();
        assert_eq!(trace.windows.len(), 1, "one was never closed");
        assert_eq!(trace.windows[0].runs, [Run { block: 0, first: 1, count: 1, slot: 0x7000, times: 3 }]);
        assert_eq!(trace.windows[0].instructions, 3);
    }

    #[test]
    fn damage_is_noticed() {
        assert!(Trace::parse(&record(1, 0, 1, 0)).is_err());
        assert!(Trace::parse(&record(REPEAT, 0, 0, 1)).is_err());
        assert!(Trace::parse(&record(DEFINE, 40, 1, 0)).is_err());
        assert!(Trace::parse(&definition(0x1000, 3, &[0x90, 0xc3])).is_err());
    }

    #[test]
    fn blocks_say_where_they_lead() {
        let flow = |code: &[u8]| {
            let trace = Trace::parse(&definition(0x1000, 1, code)).unwrap();
            (trace.blocks[0].flow, trace.blocks[0].end())
        };
        assert_eq!(flow(&[0x90]), (Flow::Next, 0x1001));
        assert_eq!(flow(&[0xeb, 0x10]), (Flow::Jump(0x1012), 0x1002));
        assert_eq!(flow(&[0x74, 0xfe]), (Flow::Branch(0x1000), 0x1002));
        assert_eq!(flow(&[0xe8, 0, 1, 0, 0]), (Flow::Call(Some(0x1105)), 0x1005));
        assert_eq!(flow(&[0xff, 0xd0]), (Flow::Call(None), 0x1002));
        assert_eq!(flow(&[0xc3]), (Flow::Return, 0x1001));
        assert_eq!(flow(&[0x48, 0xcf]), (Flow::InterruptReturn, 0x1002));
        assert_eq!(flow(&[0x0f, 0x05]), (Flow::Anywhere, 0x1002));
        assert_eq!(flow(&[0x48, 0x0f, 0x07]), (Flow::Anywhere, 0x1003));
        assert_eq!(flow(&[0xff, 0xe0]), (Flow::Anywhere, 0x1002));
    }
}
