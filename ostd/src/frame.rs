// SPDX-License-Identifier: MPL-2.0

//! Frames: OSTD's untyped frames behind the framework's trait.

use core::ops::Range;

use ostd::mm::{
    Frame, FrameAllocOptions, HasPaddr, PAGE_SIZE, UFrame, VmReader, VmWriter, frame::untyped::AnyUFrameMeta,
    io::util::HasVmReaderWriter,
};
use ref_cast::RefCast;
use spin::Once;
use vmar::machine::{self, Blank};

/// A handle to one page of memory.
#[derive(Clone, Debug, PartialEq, Eq, RefCast)]
#[repr(transparent)]
pub struct OstdFrame(UFrame);

impl OstdFrame {
    /// Returns OSTD's handle, for its readers and writers.
    pub fn as_uframe(&self) -> &UFrame {
        &self.0
    }

    /// Returns OSTD's handle.
    pub fn into_uframe(self) -> UFrame {
        self.0
    }
}

impl<M: AnyUFrameMeta> From<Frame<M>> for OstdFrame {
    fn from(frame: Frame<M>) -> Self {
        Self(frame.into())
    }
}

impl From<UFrame> for OstdFrame {
    fn from(frame: UFrame) -> Self {
        Self(frame)
    }
}

impl machine::Frame for OstdFrame {
    fn read(&self, offset: usize, buf: &mut [u8]) {
        assert!(offset <= PAGE_SIZE && buf.len() <= PAGE_SIZE - offset, "read past the end of the page");
        self.0.reader().skip(offset).read(&mut VmWriter::from(buf));
    }

    fn write(&self, offset: usize, buf: &[u8]) {
        assert!(offset <= PAGE_SIZE && buf.len() <= PAGE_SIZE - offset, "write past the end of the page");
        self.0.writer().skip(offset).write(&mut VmReader::from(buf));
    }

    fn zero(&self, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= PAGE_SIZE, "zeroed past the end of the page");
        self.0.writer().skip(range.start).limit(range.len()).fill_zeros(range.len());
    }

    fn id(&self) -> u64 {
        (self.0.paddr() / PAGE_SIZE) as u64
    }

    fn holders(&self) -> usize {
        self.0.reference_count() as usize
    }
}

/// A page of memory that has not been filled.
#[derive(Debug)]
pub struct OstdBlank(Frame<()>);

impl OstdBlank {
    pub(crate) fn new(frame: Frame<()>) -> Self {
        Self(frame)
    }
}

impl Blank for OstdBlank {
    type Frame = OstdFrame;

    fn zeroed(self) -> OstdFrame {
        self.0.writer().fill_zeros(PAGE_SIZE);
        self.0.into()
    }

    fn copy_of(self, source: &OstdFrame) -> OstdFrame {
        self.0.writer().write(&mut source.0.reader());
        self.0.into()
    }
}

static ZERO_FRAME: Once<OstdFrame> = Once::new();

/// Returns the frame of zeros, which lives from its first use on.
///
/// # Panics
///
/// Panics if memory has run out before the first program ran.
pub(crate) fn zero_frame() -> OstdFrame {
    let frame = ZERO_FRAME.call_once(|| {
        let frame = FrameAllocOptions::new().alloc_frame().expect("no memory for the frame of zeros");
        OstdFrame::from(frame)
    });
    frame.clone()
}
