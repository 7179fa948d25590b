// SPDX-License-Identifier: MPL-2.0

//! How a process ended, and how `wait` tells.

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// By `exit`, with the low eight bits of its argument.
    Exited(u8),
    /// By a signal; `core` if the signal's default action is to dump core.
    Killed {
        /// The signal.
        signal: u8,
        /// Whether the status says "core dumped". Nothing is ever dumped.
        core: bool,
    },
}

impl ExitStatus {
    /// The status word of `wait4(2)`.
    pub fn wait_status(self) -> i32 {
        match self {
            Self::Exited(code) => i32::from(code) << 8,
            Self::Killed { signal, core } => i32::from(signal) | if core { 0x80 } else { 0 },
        }
    }

    /// The status a shell would show: the exit code, or 128 plus the signal.
    pub fn shell_status(self) -> i32 {
        match self {
            Self::Exited(code) => i32::from(code),
            Self::Killed { signal, .. } => 128 + i32::from(signal),
        }
    }
}
