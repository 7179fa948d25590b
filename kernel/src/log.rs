// SPDX-License-Identifier: MPL-2.0

//! The kernel's log, written to I/O port 0xe9.
//!
//! QEMU stores what a guest writes to that port in a file (`-debugcon file:...`). The serial console stays free for
//! programs. When the first process ends, the last line of the log is `exit: N` with its status. The last lines are kept in
//! memory as well ([`ring`]).

pub mod ring;

use core::fmt::Write;

use ostd::{
    arch::device::io_port::WriteOnlyAccess,
    boot::EarlyCmdline,
    io::IoPort,
    log::{Level, LevelFilter, Log, Record, inject_logger, set_max_level},
};

use crate::prelude::*;

const PORT: u16 = 0xe9;

struct DebugPort {
    port: SpinLock<Option<IoPort<u8, WriteOnlyAccess>>, LocalIrqDisabled>,
}

static DEBUG_PORT: DebugPort = DebugPort { port: SpinLock::new(None) };

struct Sink<'a>(&'a IoPort<u8, WriteOnlyAccess>);

impl Write for Sink<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.0.write(byte));
        Ok(())
    }
}

impl Log for DebugPort {
    fn log(&self, record: &Record) {
        ring::add(record.level() as u8, *record.args());
        // Emergencies go out even when the message is about the log itself: never wait for the lock.
        let Some(guard) = self.port.try_lock() else { return };
        let Some(port) = guard.as_ref() else { return };
        let level = match record.level() {
            Level::Emerg | Level::Alert | Level::Crit | Level::Error => "error: ",
            Level::Warning => "warning: ",
            _ => "",
        };
        // Writing to the port cannot fail.
        let _ = writeln!(Sink(port), "{level}{}", record.args());
    }
}

/// Notes a line of information for those who ask for the log in the machine, whatever the level of the one outside.
pub fn note(args: fmt::Arguments<'_>) {
    ring::add(6, args);
}

/// Directs the log to the port, and lets through what `log=` on the kernel's command line asks for.
pub fn init(cmdline: &str) {
    match IoPort::acquire(PORT) {
        Ok(port) => *DEBUG_PORT.port.lock() = Some(port),
        Err(error) => error!("the debug port cannot be had: {:?}", error),
    }
    inject_logger(&DEBUG_PORT);
    set_max_level(level_from(cmdline));
}

/// Writes one line that is part of a contract (`exit: N`), whatever the level of the log.
pub fn write_line(args: fmt::Arguments) {
    if let Some(port) = DEBUG_PORT.port.lock().as_ref() {
        let _ = writeln!(Sink(port), "{args}");
    }
}

/// As [`write_line`], but without waiting for whoever writes just now: he may have panicked.
pub fn write_line_if_free(args: fmt::Arguments) {
    if let Some(guard) = DEBUG_PORT.port.try_lock()
        && let Some(port) = guard.as_ref()
    {
        let _ = writeln!(Sink(port), "{args}");
    }
}

/// `log=LEVEL`; without it, warnings and what is graver.
fn level_from(cmdline: &str) -> LevelFilter {
    let wanted = cmdline.split_whitespace().find_map(|word| word.strip_prefix("log="));
    match wanted {
        Some("off") => LevelFilter::Off,
        Some("error") => LevelFilter::Error,
        Some("info") => LevelFilter::Info,
        Some("debug" | "trace") => LevelFilter::Debug,
        _ => LevelFilter::Warning,
    }
}

/// Until the port is open, only errors are printed, and on the serial port.
#[ostd::early_cmdline_parser]
const fn early_cmdline(_cmdline: &str) -> EarlyCmdline {
    EarlyCmdline { log_level: LevelFilter::Error, has_early_console: true }
}
