// SPDX-License-Identifier: MPL-2.0

//! The floating-point state in a signal frame, in the format of Linux on x86-64.
//!
//! ```text
//!    0   464                512          576
//!    │ FXSAVE │ software area │ XSAVE header │ extended states │ FP_XSTATE_MAGIC2 │
//! ```
//!
//! The software area of 48 bytes, which the CPU does not touch, says what follows. A frame without it, or without the
//! second magic number, holds the FXSAVE part only.
//!
//! Invariant: whatever a program has written into its frame, what reaches the CPU is something that it can load: reserved
//! bits of MXCSR are cleared, and the header names only features that are there.

use ostd::arch::cpu::context::FpuContext;

use crate::prelude::*;

const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;

/// The length of the FXSAVE image.
const FXSAVE_LEN: usize = 512;
/// Where MXCSR is in it.
const MXCSR: core::ops::Range<usize> = 24..28;
/// Where the features that the image holds are, and the whole header.
const FEATURES: core::ops::Range<usize> = 512..520;
const HEADER: core::ops::Range<usize> = 512..576;
/// The bits of MXCSR that exist.
const MXCSR_MASK: u32 = 0xffff;
/// The initial control word of the x87, and the initial MXCSR.
const INITIAL_CONTROL: u16 = 0x037f;
const INITIAL_MXCSR: u32 = 0x1f80;
/// x87 and SSE: what an FXSAVE image holds.
const FP_SSE: u64 = 3;
/// What OSTD saves and restores: x87, SSE, AVX and the three parts of AVX-512.
const FEATURES_KEPT: u64 = 0b1110_0111;

/// `struct _fpx_sw_bytes`.
#[repr(C)]
#[derive(Pod, Clone, Copy, Debug, Default)]
struct SoftwareArea {
    magic: u32,
    extended_len: u32,
    features: u64,
    xstate_len: u32,
    padding: [u32; 7],
}

const SOFTWARE_AREA: usize = FXSAVE_LEN - size_of::<SoftwareArea>();

/// How many bytes [`save_to`] writes.
pub(super) fn saved_len(ctx: &Ctx) -> usize {
    ctx.local.with_fpu(|fpu| saved_len_of(fpu))
}

/// How many bytes [`save_to`] writes for such a state.
pub(super) fn saved_len_of(state: &FpuContext) -> usize {
    match state.as_bytes().len() {
        len if len > FXSAVE_LEN => len + size_of::<u32>(),
        len => len,
    }
}

/// Writes the thread's state to its memory at `addr`. Answers whether it is in the extended format.
pub(super) fn save_to(ctx: &Ctx, addr: Vaddr) -> Result<bool> {
    ctx.local.with_fpu(|fpu| {
        let bytes = fpu.as_bytes_mut();
        let len = bytes.len();
        if len <= FXSAVE_LEN {
            ctx.vm.write_bytes(addr, bytes)?;
            ctx.vm.write_val(addr + SOFTWARE_AREA, &SoftwareArea::default())?;
            return Ok(false);
        }
        let features = features_of(bytes) | FP_SSE;
        bytes[FEATURES].copy_from_slice(&features.to_le_bytes());
        let area = SoftwareArea {
            magic: FP_XSTATE_MAGIC1,
            extended_len: (len + size_of::<u32>()) as u32,
            features: available(),
            xstate_len: len as u32,
            padding: [0; 7],
        };
        ctx.vm.write_bytes(addr, bytes)?;
        ctx.vm.write_val(addr + SOFTWARE_AREA, &area)?;
        ctx.vm.write_val(addr + len, &FP_XSTATE_MAGIC2)?;
        Ok(true)
    })
}

/// Loads the thread's state from its memory at `addr`; the initial state if that is 0, or cannot be read.
pub(super) fn restore_from(ctx: &Ctx, addr: Vaddr) -> Result<()> {
    if addr == 0 {
        reset(ctx);
        return Ok(());
    }
    let result = ctx.local.with_fpu(|fpu| {
        let bytes = fpu.as_bytes_mut();
        let wanted = if is_extended(ctx, addr, bytes.len())? { bytes.len() } else { FXSAVE_LEN };
        let result = ctx.vm.read_bytes(addr, &mut bytes[..wanted]);
        sanitize(bytes, wanted);
        result
    });
    if result.is_err() {
        reset(ctx);
    }
    result
}

/// Gives the thread the initial state, which a handler starts with.
pub(super) fn reset(ctx: &Ctx) {
    ctx.local.with_fpu(|fpu| {
        let bytes = fpu.as_bytes_mut();
        if bytes.len() <= FXSAVE_LEN {
            *fpu = FpuContext::new();
            return;
        }
        // A header that names no feature has the CPU take the initial state of each.
        bytes[..HEADER.end].fill(0);
        bytes[..2].copy_from_slice(&INITIAL_CONTROL.to_le_bytes());
        bytes[MXCSR].copy_from_slice(&INITIAL_MXCSR.to_le_bytes());
    });
}

/// Whether the state at `addr` says that it has the extended format, in the length `len` that is in use here.
fn is_extended(ctx: &Ctx, addr: Vaddr, len: usize) -> Result<bool> {
    if len <= FXSAVE_LEN {
        return Ok(false);
    }
    let area: SoftwareArea = ctx.vm.read_val(addr.wrapping_add(SOFTWARE_AREA))?;
    if area.magic != FP_XSTATE_MAGIC1 || area.xstate_len as usize != len {
        return Ok(false);
    }
    let magic: u32 = ctx.vm.read_val(addr.wrapping_add(len))?;
    Ok(magic == FP_XSTATE_MAGIC2)
}

/// Makes `bytes`, of which a program has written the first `written`, something that the CPU can load.
fn sanitize(bytes: &mut [u8], written: usize) {
    let mxcsr = u32::from_le_bytes([bytes[24], bytes[25], bytes[26], bytes[27]]) & MXCSR_MASK;
    bytes[MXCSR].copy_from_slice(&mxcsr.to_le_bytes());
    if bytes.len() > FXSAVE_LEN {
        let features = if written > FXSAVE_LEN { features_of(bytes) & available() } else { FP_SSE };
        bytes[HEADER].fill(0);
        bytes[FEATURES].copy_from_slice(&features.to_le_bytes());
    }
}

/// Whether the CPU can load an FXSAVE image, whatever else it holds.
///
/// # Errors
///
/// `EINVAL` if MXCSR has a bit that is not there.
pub(crate) fn check_image(image: &[u8; FXSAVE_LEN]) -> Result<()> {
    let mxcsr = u32::from_le_bytes([image[24], image[25], image[26], image[27]]);
    if mxcsr & !MXCSR_MASK == 0 { Ok(()) } else { Err(EINVAL) }
}

/// Has the CPU load the FXSAVE image that `bytes` begin with.
pub(crate) fn name_features(bytes: &mut [u8]) {
    if bytes.len() > FXSAVE_LEN {
        let features = features_of(bytes) | FP_SSE;
        bytes[FEATURES].copy_from_slice(&features.to_le_bytes());
    }
}

/// Makes `bytes`, a thread's state, what `PTRACE_GETREGSET` gives as `NT_X86_XSTATE`: the software area begins with the features that
/// there can be, and what is in its initial state is zeros.
///
/// # Errors
///
/// `ENODEV` if the CPU has no such format.
pub(crate) fn show_extended(bytes: &mut [u8]) -> Result<()> {
    if bytes.len() <= FXSAVE_LEN {
        return Err(ENODEV);
    }
    let features = features_of(bytes) & available();
    bytes[SOFTWARE_AREA..HEADER.end].fill(0);
    bytes[SOFTWARE_AREA..SOFTWARE_AREA + size_of::<u64>()].copy_from_slice(&available().to_le_bytes());
    bytes[FEATURES].copy_from_slice(&features.to_le_bytes());
    if features & !FP_SSE == 0 {
        bytes[HEADER.end..].fill(0);
    }
    Ok(())
}

/// Makes `image`, which `PTRACE_SETREGSET` has been given as `NT_X86_XSTATE`, something that the CPU can load: what it does not name is
/// in its initial state.
///
/// # Errors
///
/// `EINVAL` if it names features that are not there or has another format, or MXCSR has a bit that is not there.
pub(crate) fn take_extended(image: &mut [u8]) -> Result<()> {
    const X87: u64 = 1 << 0;
    const SSE: u64 = 1 << 1;
    const AVX: u64 = 1 << 2;
    /// Where the registers of the x87 and of SSE are in the FXSAVE image.
    const X87_REGISTERS: core::ops::Range<usize> = 32..160;
    const SSE_REGISTERS: core::ops::Range<usize> = 160..416;
    let features = features_of(image);
    if features & !available() != 0 || image[FEATURES.end..HEADER.end].iter().any(|byte| *byte != 0) {
        return Err(EINVAL);
    }
    if features & (X87 | SSE | AVX) == 0 {
        image[MXCSR].copy_from_slice(&INITIAL_MXCSR.to_le_bytes());
    }
    let mxcsr = u32::from_le_bytes([image[24], image[25], image[26], image[27]]);
    if mxcsr & !MXCSR_MASK != 0 {
        return Err(EINVAL);
    }
    if features & X87 == 0 {
        image[..MXCSR.start].fill(0);
        image[..2].copy_from_slice(&INITIAL_CONTROL.to_le_bytes());
        image[X87_REGISTERS].fill(0);
    }
    if features & SSE == 0 {
        image[SSE_REGISTERS].fill(0);
    }
    image[SOFTWARE_AREA..FXSAVE_LEN].fill(0);
    name_features(image);
    Ok(())
}

/// The features whose states `bytes` holds.
fn features_of(bytes: &[u8]) -> u64 {
    bytes.get(FEATURES).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// The features that the CPU has enabled and OSTD keeps: those of an initial state.
fn available() -> u64 {
    static AVAILABLE: AtomicU64 = AtomicU64::new(0);
    match AVAILABLE.load(Ordering::Relaxed) {
        0 => {
            let features = features_of(FpuContext::new().as_bytes()) & FEATURES_KEPT;
            AVAILABLE.store(features, Ordering::Relaxed);
            features
        }
        features => features,
    }
}

#[cfg(ktest)]
mod test {
    use ostd::prelude::ktest;

    use super::*;

    #[ktest]
    fn the_software_area_ends_the_fxsave_image() {
        assert_eq!((size_of::<SoftwareArea>(), SOFTWARE_AREA), (48, 464));
    }

    #[ktest]
    fn nothing_that_the_cpu_refuses_gets_through() {
        let mut state = FpuContext::new();
        let bytes = state.as_bytes_mut();
        bytes.fill(0xff);
        let len = bytes.len();
        sanitize(bytes, len);
        assert_eq!(bytes[26..28], [0, 0]);
        if len > FXSAVE_LEN {
            assert_eq!(features_of(bytes), available());
            assert!(bytes[520..576].iter().all(|byte| *byte == 0));
        }
        state.load();
        FpuContext::new().load();
    }

    #[ktest]
    fn extended_state_goes_there_and_back() {
        let mut image = FpuContext::new().as_bytes().to_vec();
        if image.len() <= FXSAVE_LEN {
            assert_eq!(show_extended(&mut image), Err(ENODEV));
            return;
        }
        show_extended(&mut image).unwrap();
        let shown = image.clone();
        assert_eq!(image[SOFTWARE_AREA..SOFTWARE_AREA + 8], available().to_le_bytes());
        take_extended(&mut image).unwrap();
        show_extended(&mut image).unwrap();
        assert_eq!(image, shown);
        for bad in [FEATURES.end - 1, FEATURES.end, HEADER.end - 1, MXCSR.end - 1] {
            let mut image = shown.clone();
            image[bad] = 0x40;
            assert_eq!(take_extended(&mut image), Err(EINVAL));
        }
    }
}
