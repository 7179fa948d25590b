// SPDX-License-Identifier: MPL-2.0

//! The processor: unicorn, and its map of memory kept in step with the guest space.
//!
//! The space's observer notes each change; before the program goes on, unicorn's map is brought up to date and code that was translated
//! from what changed is dropped.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    sync::{Arc, Mutex},
};

use anyhow::{Result, anyhow};
use unicorn_engine::{Prot, Unicorn, uc_error};
use vmar_hosted::{Change, GuestSpace, VmPerms, host::Host};

use crate::{host, isa::Isa};

/// Why the program has stopped.
pub enum Stop {
    /// It asks for something: the number and the arguments.
    Syscall(u64, [u64; 6]),
    /// It cannot go on.
    Fault(Fault),
}

/// What a program cannot go on after.
pub struct Fault {
    what: String,
    pc: u64,
}

/// Guest memory that unicorn knows.
#[derive(Clone, Copy)]
struct Known {
    end: usize,
    /// Code may have been translated from it.
    is_code: bool,
}

pub struct Cpu {
    uc: Unicorn<'static, Option<u32>>,
    isa: Isa,
    pc: u64,
    known: BTreeMap<usize, Known>,
    changes: Arc<Mutex<Vec<Change>>>,
}

fn failed(what: &'static str) -> impl Fn(uc_error) -> anyhow::Error {
    move |error| anyhow!("{what}: unicorn says {error:?}")
}

/// What unicorn is to allow. Like real processors it has no pages that are only written, or only executed.
fn engine_perms(perms: VmPerms) -> Prot {
    let mut allowed = Prot::NONE;
    if !perms.is_empty() {
        allowed |= Prot::READ;
    }
    if perms.contains(VmPerms::WRITE) {
        allowed |= Prot::WRITE;
    }
    if perms.contains(VmPerms::EXEC) {
        allowed |= Prot::EXEC;
    }
    allowed
}

impl Cpu {
    pub fn new(isa: Isa, changes: Arc<Mutex<Vec<Change>>>) -> Result<Self> {
        let (arch, mode) = isa.engine();
        let mut uc = Unicorn::new_with_data(arch, mode, None).map_err(failed("no processor"))?;
        uc.add_intr_hook(|uc, number| {
            *uc.get_data_mut() = Some(number);
            // It is running, so it can be stopped.
            let _ = uc.emu_stop();
        })
        .map_err(failed("no hook for system calls"))?;
        let (register, value) = isa.floating_point();
        uc.reg_write(register, value).map_err(failed("no floating point"))?;
        Ok(Self { uc, isa, pc: 0, known: BTreeMap::new(), changes })
    }

    /// Sets where the program starts, and its stack.
    pub fn start(&mut self, entry: usize, stack: usize) -> Result<()> {
        self.pc = entry as u64;
        self.uc.reg_write(self.isa.stack_pointer(), stack as u64).map_err(failed("no stack"))
    }

    /// Lets the program go on until it stops.
    pub fn run(&mut self) -> Result<Stop> {
        *self.uc.get_data_mut() = None;
        let result = self.uc.emu_start(self.pc, u64::MAX, 0, 0);
        self.pc = self.uc.pc_read().map_err(failed("no program counter"))?;
        let fault = |what: String| Ok(Stop::Fault(Fault { what, pc: self.pc }));
        match (result, *self.uc.get_data()) {
            (Err(error), _) => fault(format!("{error:?}")),
            (Ok(()), Some(number)) if number == self.isa.syscall_interrupt() => {
                let read = |register: i32| self.uc.reg_read(register).map_err(failed("no register"));
                let mut arguments = [0; 6];
                for (argument, register) in arguments.iter_mut().zip(self.isa.arguments()) {
                    *argument = read(register)?;
                }
                Ok(Stop::Syscall(read(self.isa.number())?, arguments))
            }
            (Ok(()), Some(number)) => fault(format!("exception {number}")),
            (Ok(()), None) => fault("it has stopped for no reason".to_owned()),
        }
    }

    /// Hands the program the result of a system call.
    pub fn set_result(&mut self, value: u64) -> Result<()> {
        self.uc.reg_write(self.isa.arguments()[0], value).map_err(failed("no result"))
    }

    /// Brings unicorn's map up to date.
    pub fn follow<H: Host>(&mut self, space: &GuestSpace<H>) -> Result<()> {
        let changes = std::mem::take(&mut *self.changes.lock().expect("nobody panics with it"));
        let mut is_code = false;
        for change in changes {
            match &change {
                Change::Mapped(range, prot) => {
                    is_code |= self.forget(range)?;
                    host::show(&mut self.uc, space, range, engine_perms(prot.perms))?;
                    let is_code = prot.perms.contains(VmPerms::EXEC);
                    self.known.insert(range.start, Known { end: range.end, is_code });
                }
                Change::Protected(range, prot) => {
                    is_code |= self.cut(range);
                    let perms = engine_perms(prot.perms);
                    self.uc
                        .mem_protect(range.start as u64, range.len() as u64, perms)
                        .map_err(failed("memory cannot be protected"))?;
                    let can_run = prot.perms.contains(VmPerms::EXEC);
                    for (_, known) in self.known.range_mut(range.clone()) {
                        known.is_code |= can_run;
                    }
                }
                Change::Unmapped(range) => is_code |= self.forget(range)?,
                Change::Discarded(range) => is_code |= self.cut(range),
                Change::Written(_) => is_code = true,
            }
        }
        if is_code {
            self.uc.ctl_flush_tb().map_err(failed("translated code cannot be dropped"))?;
        }
        Ok(())
    }

    /// Takes a range out of unicorn's map, and returns whether code may have been translated from it.
    fn forget(&mut self, range: &Range<usize>) -> Result<bool> {
        let is_code = self.cut(range);
        let inside: Vec<(usize, usize)> =
            self.known.range(range.clone()).map(|(&start, known)| (start, known.end)).collect();
        for (start, end) in inside {
            self.known.remove(&start);
            self.uc
                .mem_unmap(start as u64, (end - start) as u64)
                .map_err(failed("memory cannot be unmapped"))?;
        }
        Ok(is_code)
    }

    /// Cuts what is known at the ends of a range, and returns whether code may have been translated from it.
    fn cut(&mut self, range: &Range<usize>) -> bool {
        for at in [range.start, range.end] {
            if let Some((&start, known)) = self.known.range_mut(..at).next_back()
                && known.end > at
            {
                let rest = *known;
                known.end = at;
                debug_assert!(start < at);
                self.known.insert(at, rest);
            }
        }
        self.known.range(range.clone()).any(|(_, known)| known.is_code)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the program cannot go on: {} at {:#x}", self.what, self.pc)
    }
}
