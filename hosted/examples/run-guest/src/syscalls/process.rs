// SPDX-License-Identifier: MPL-2.0

//! The process, time, and what a C library asks for when it starts.

use std::{
    ffi::OsStr,
    os::unix::{ffi::OsStrExt, process::CommandExt},
    process::Command,
};

use rustix::{
    fs::Timespec,
    process::{self, Pid, WaitOptions},
    rand::{self, GetRandomFlags},
    stdio, thread,
    time::{ClockId, clock_gettime},
};
use syscalls::aarch64::Sysno;
use vmar_hosted::{Side, host::Errno};

use super::{Arguments, Kernel, Outcome};
use crate::host;

/// `CLONE_THREAD`.
const THREAD: u64 = 0x10000;
const CHILD_SETTID: u64 = 0x1000000;

impl Kernel {
    /// Serves the other calls.
    pub(super) fn process(&mut self, call: Sysno, arguments: Arguments) -> Result<Outcome, Errno> {
        let Arguments([zero, one, two, ..]) = arguments;
        let value = match call {
            Sysno::clone => self.fork(zero, one, arguments.0[4])?,
            Sysno::wait4 => self.wait(zero as i32, one, two)?,
            Sysno::execve => return Err(self.execute(arguments)),
            Sysno::getpid | Sysno::gettid | Sysno::set_tid_address => own_number(),
            Sysno::getppid => process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get() as u64),
            Sysno::getuid => process::getuid().as_raw().into(),
            Sysno::geteuid => process::geteuid().as_raw().into(),
            Sysno::getgid => process::getgid().as_raw().into(),
            Sysno::getegid => process::getegid().as_raw().into(),
            Sysno::umask => process::umask(rustix::fs::Mode::from_raw_mode(zero as u32)).as_raw_mode().into(),
            Sysno::uname => self.name(arguments.addr(0))?,
            Sysno::sched_yield | Sysno::set_robust_list => 0,
            Sysno::rt_sigaction => self.clear(two, 32)?,
            Sysno::rt_sigprocmask => self.clear(two, 8)?,
            Sysno::kill | Sysno::tkill => return self.signal(zero, one),
            Sysno::tgkill => return self.signal(one, two),
            Sysno::getrandom => {
                let mut bytes = vec![0; (one as usize).min(256)];
                rand::getrandom(&mut bytes, GetRandomFlags::empty())?;
                self.write(arguments.addr(0), &bytes)?;
                bytes.len() as u64
            }
            Sysno::clock_gettime => self.put_time(one, clock_gettime(clock(zero)?), 1)?,
            Sysno::gettimeofday => self.put_time(zero, clock_gettime(ClockId::Realtime), 1000)?,
            Sysno::nanosleep => self.sleep(zero)?,
            Sysno::clock_nanosleep => self.sleep(two)?,
            Sysno::prlimit64 => self.limit(one, arguments.0[3])?,
            // Nobody waits: there is one thread.
            Sysno::futex => 0,
            _ => return Err(Errno::NOSYS),
        };
        Ok(Outcome::Return(value))
    }

    /// Forks. What would share the parent's memory until it has executed something gets a copy.
    fn fork(&self, flags: u64, stack: u64, child_number: u64) -> Result<u64, Errno> {
        if flags & THREAD != 0 || stack != 0 {
            return Err(Errno::NOSYS);
        }
        match host::fork(&self.space).map_err(|_| Errno::AGAIN)? {
            Side::Parent(pid) => Ok(pid as u64),
            Side::Child => {
                if flags & CHILD_SETTID != 0 {
                    self.write(child_number as usize, &(own_number() as u32).to_le_bytes())?;
                }
                Ok(0)
            }
        }
    }

    fn wait(&self, pid: i32, status: u64, options: u64) -> Result<u64, Errno> {
        let options = WaitOptions::from_bits_truncate(options as u32);
        let found = match Pid::from_raw(pid.max(0)) {
            Some(pid) => process::waitpid(Some(pid), options)?,
            None => process::wait(options)?,
        };
        let Some((pid, found)) = found else { return Ok(0) };
        if status != 0 {
            self.write(status as usize, &found.as_raw().to_le_bytes())?;
        }
        Ok(pid.as_raw_nonzero().get() as u64)
    }

    /// Replaces the program: this one runs the other, with the three standard files. Comes back only to say why not.
    fn execute(&self, arguments: Arguments) -> Errno {
        let start = || -> Result<Command, Errno> {
            let path = self.read_string(arguments.addr(0))?;
            let path = OsStr::from_bytes(&path);
            rustix::fs::access(path, rustix::fs::Access::EXEC_OK)?;
            let list = |mut at: usize| -> Result<Vec<Vec<u8>>, Errno> {
                let mut list = Vec::new();
                loop {
                    let [string] = self.read_words(at)?;
                    if string == 0 {
                        return Ok(list);
                    }
                    list.push(self.read_string(string as usize)?);
                    at += 8;
                }
            };
            // A program that starts itself again by the name of its own process is the guest, not this one.
            let own = path == "/proc/self/exe";
            let path = if own { self.path.as_os_str() } else { path };
            let mut command = Command::new("/proc/self/exe");
            command.args(["--page-size", &(self.space.page_size() >> 10).to_string()]).arg("--name");
            let words = list(arguments.addr(1))?;
            command.arg(OsStr::from_bytes(words.first().map_or(&[], |word| word)));
            command.arg(path).args(words.iter().skip(1).map(|word| OsStr::from_bytes(word)));
            command.env_clear();
            for variable in list(arguments.addr(2))? {
                let at = variable.iter().position(|byte| *byte == b'=').unwrap_or(variable.len());
                let value = variable.get(at + 1..).unwrap_or(&[]);
                command.env(OsStr::from_bytes(&variable[..at]), OsStr::from_bytes(value));
            }
            Ok(command)
        };
        match start() {
            Ok(mut command) => {
                for (number, file) in &self.files {
                    let _ = match number {
                        0 => stdio::dup2_stdin(file),
                        1 => stdio::dup2_stdout(file),
                        2 => stdio::dup2_stderr(file),
                        _ => Ok(()),
                    };
                }
                Errno::from_io_error(&command.exec()).unwrap_or(Errno::NOENT)
            }
            Err(errno) => errno,
        }
    }

    /// A signal to the program itself ends it; others get theirs from the host.
    fn signal(&self, pid: u64, number: u64) -> Result<Outcome, Errno> {
        if number == 0 {
            return Ok(Outcome::Return(0));
        }
        if pid == own_number() {
            return Ok(Outcome::Exit(128 + number as u8));
        }
        let signal = process::Signal::from_named_raw(number as i32).ok_or(Errno::INVAL)?;
        process::kill_process(Pid::from_raw(pid as i32).ok_or(Errno::SRCH)?, signal)?;
        Ok(Outcome::Return(0))
    }

    fn name(&self, addr: usize) -> Result<u64, Errno> {
        const FIELD: usize = 65;
        let fields = ["Linux", "guest", "6.1.0", "#1 vmar-hosted", self.isa.name(), "(none)"];
        let mut bytes = Vec::new();
        for field in fields {
            let mut bytes_of_field = field.as_bytes().to_vec();
            bytes_of_field.resize(FIELD, 0);
            bytes.extend(bytes_of_field);
        }
        self.write(addr, &bytes).map(|()| 0)
    }

    /// Writes zeros where the program wants to know what was set before.
    fn clear(&self, addr: u64, len: usize) -> Result<u64, Errno> {
        if addr != 0 {
            self.write(addr as usize, &vec![0; len])?;
        }
        Ok(0)
    }

    fn put_time(&self, addr: u64, time: Timespec, unit: u64) -> Result<u64, Errno> {
        self.write_words(addr as usize, &[time.tv_sec as u64, time.tv_nsec as u64 / unit]).map(|()| 0)
    }

    fn sleep(&self, addr: u64) -> Result<u64, Errno> {
        let [seconds, nanoseconds] = self.read_words(addr as usize)?;
        let time = Timespec { tv_sec: seconds as i64, tv_nsec: nanoseconds as i64 };
        match thread::nanosleep(&time) {
            thread::NanosleepRelativeResult::Ok => Ok(0),
            thread::NanosleepRelativeResult::Interrupted(_) => Err(Errno::INTR),
            thread::NanosleepRelativeResult::Err(errno) => Err(errno),
        }
    }

    /// Limits: the stack's and the address space's are told, none can be changed.
    fn limit(&self, which: u64, old: u64) -> Result<u64, Errno> {
        const STACK: u64 = 3;
        if old != 0 {
            let value = if which == STACK { 8 << 20 } else { u64::MAX };
            self.write_words(old as usize, &[value, u64::MAX])?;
        }
        Ok(0)
    }
}

fn own_number() -> u64 {
    process::getpid().as_raw_nonzero().get() as u64
}

/// Returns the clock of a number. The coarse ones are as good as the fine ones.
fn clock(number: u64) -> Result<ClockId, Errno> {
    Ok(match number {
        0 | 5 => ClockId::Realtime,
        1 | 4 | 6 => ClockId::Monotonic,
        2 => ClockId::ProcessCPUTime,
        3 => ClockId::ThreadCPUTime,
        7 => ClockId::Boottime,
        _ => return Err(Errno::INVAL),
    })
}
