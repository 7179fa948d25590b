// SPDX-License-Identifier: MPL-2.0

//! The first serial port as a terminal: the console.
//!
//! The port interrupts when bytes have arrived; the interrupt moves them to a ring, and a task hands them to the terminal,
//! because what was typed may send signals. Sending needs no interrupt: the port takes bytes as fast as they come.

use ostd::{
    arch::{
        irq::{IRQ_CHIP, MappedIrqLine},
        serial::SERIAL_PORT,
    },
    irq::IrqLine,
    task::TaskOptions,
};

use super::{Output, Tty, TtyKind, WindowSize};
use crate::{fs::types::DeviceId, prelude::*, process::TaskData, sched::SchedEntity, wait::WaitQueue};

/// The interrupt of the first serial port (ISA).
const IRQ: u8 = 4;

/// Bytes that wait for the task; what arrives beyond is lost.
const RING_SIZE: usize = 4096;

/// Bytes sent with interrupts off in one go.
const BURST: usize = 64;

static RING: SpinLock<VecDeque<u8>, LocalIrqDisabled> = SpinLock::new(VecDeque::new());
static ARRIVED: WaitQueue = WaitQueue::new();
static IRQ_LINE: SpinLock<Option<MappedIrqLine>> = SpinLock::new(None);

struct SerialOutput;

impl Output for SerialOutput {
    fn room(&self) -> usize {
        usize::MAX
    }

    fn show(&self, bytes: &[u8]) {
        let Some(port) = SERIAL_PORT.get() else { return };
        for burst in bytes.chunks(BURST) {
            let mut port = port.lock();
            burst.iter().for_each(|byte| port.send(*byte));
        }
    }
}

/// Makes the terminal and starts to listen.
pub fn init(number: DeviceId) -> Arc<Tty> {
    let tty = Tty::new(number, TtyKind::Line, Arc::new(SerialOutput));
    tty.set_window(WindowSize { rows: 24, columns: 80, ..WindowSize::default() });
    RING.lock().reserve(RING_SIZE);
    let listener = tty.clone();
    let spawned =
        TaskOptions::new(move || listen(&listener)).data(TaskData::Kernel(SchedEntity::new())).spawn();
    if let Err(error) = spawned {
        error!("no task for the console: {:?}", error);
    }
    match connect() {
        Ok(line) => *IRQ_LINE.lock() = Some(line),
        Err(error) => error!("the console has no interrupt: {:?}", error),
    }
    // What came before the interrupt was there.
    collect();
    tty
}

fn connect() -> core::result::Result<MappedIrqLine, ostd::Error> {
    let mut line = IrqLine::alloc()?;
    line.on_active(|_| collect());
    IRQ_CHIP.get().ok_or(ostd::Error::IoError)?.map_isa_pin_to(line, IRQ)
}

/// Moves what has arrived to the ring.
fn collect() {
    let Some(port) = SERIAL_PORT.get() else { return };
    {
        let mut ring = RING.lock();
        let mut port = port.lock();
        while let Some(byte) = port.recv() {
            if ring.len() < RING_SIZE {
                ring.push_back(byte);
            }
        }
    }
    ARRIVED.wake_all();
}

fn listen(tty: &Tty) -> ! {
    loop {
        let bytes = ARRIVED.wait(|| {
            let mut ring = RING.lock();
            (!ring.is_empty()).then(|| ring.drain(..).collect::<Vec<_>>())
        });
        tty.receive(&bytes);
    }
}
