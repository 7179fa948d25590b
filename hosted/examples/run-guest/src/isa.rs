// SPDX-License-Identifier: MPL-2.0

//! What differs between the two architectures.

use unicorn_engine::{Arch, Mode, RegisterARM64, RegisterRISCV};
use vmar_hosted::ArchProt;

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    Aarch64,
    Riscv64,
}

impl Isa {
    /// Its name, as uname has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64",
            Self::Riscv64 => "riscv64",
        }
    }

    /// What unicorn calls it.
    pub fn engine(self) -> (Arch, Mode) {
        match self {
            Self::Aarch64 => (Arch::ARM64, Mode::LITTLE_ENDIAN),
            Self::Riscv64 => (Arch::RISCV, Mode::RISCV64),
        }
    }

    /// The protection bits of its own. Branch targets are not checked here, nor is memory tagged.
    pub fn arch_prot(self) -> ArchProt {
        ArchProt::empty()
    }

    /// What programs are told of the processor (`AT_HWCAP`).
    pub fn capabilities(self) -> u64 {
        match self {
            // Floating point and vectors.
            Self::Aarch64 => 0b11,
            // The letters I, M, A, F, D and C.
            Self::Riscv64 => {
                ['i', 'm', 'a', 'f', 'd', 'c'].iter().map(|&letter| 1 << (letter as u8 - b'a')).sum()
            }
        }
    }

    /// The number of the interrupt that a system call is.
    pub fn syscall_interrupt(self) -> u32 {
        match self {
            Self::Aarch64 => 2,
            Self::Riscv64 => 8,
        }
    }

    /// The register that the number of a system call is in.
    pub fn number(self) -> i32 {
        match self {
            Self::Aarch64 => RegisterARM64::X8.into(),
            Self::Riscv64 => RegisterRISCV::A7.into(),
        }
    }

    /// The registers that its arguments are in; the result goes to the first.
    pub fn arguments(self) -> [i32; 6] {
        match self {
            Self::Aarch64 => [
                RegisterARM64::X0,
                RegisterARM64::X1,
                RegisterARM64::X2,
                RegisterARM64::X3,
                RegisterARM64::X4,
                RegisterARM64::X5,
            ]
            .map(Into::into),
            Self::Riscv64 => [
                RegisterRISCV::A0,
                RegisterRISCV::A1,
                RegisterRISCV::A2,
                RegisterRISCV::A3,
                RegisterRISCV::A4,
                RegisterRISCV::A5,
            ]
            .map(Into::into),
        }
    }

    /// The stack pointer.
    pub fn stack_pointer(self) -> i32 {
        match self {
            Self::Aarch64 => RegisterARM64::SP.into(),
            Self::Riscv64 => RegisterRISCV::SP.into(),
        }
    }

    /// A register, and what to set in it so that floating point can be used.
    pub fn floating_point(self) -> (i32, u64) {
        match self {
            // CPACR_EL1.FPEN: nothing traps.
            Self::Aarch64 => (RegisterARM64::CPACR_EL1.into(), 0b11 << 20),
            // mstatus.FS: dirty.
            Self::Riscv64 => (RegisterRISCV::MSTATUS.into(), 0b11 << 13),
        }
    }
}
