// SPDX-License-Identifier: MPL-2.0

//! Pseudoterminals: a terminal whose other end is a file, as in `pty(7)`.
//!
//! ```text
//!   program ◄─read─ /dev/pts/N: Tty ◄─receive─ Pty ◄─write─ /dev/ptmx: terminal emulator
//!           ─write─►            ─Output──────► to_master ─read─►
//! ```
//!
//! Opening `/dev/ptmx` makes a pair. The master's end takes the pair out of [`PAIRS`] when it is closed, and hangs the terminal up;
//! what the terminal's last file leaves behind can still be read by the master, then EIO.
//!
//! Lock order: the terminal's `discipline`, then `state`.

use linux_raw_sys::{
    general::TIOCPKT_DATA,
    ioctl::{
        FIONREAD, TIOCGPGRP, TIOCGPKT, TIOCGPTLCK, TIOCGPTN, TIOCGPTPEER, TIOCGSID, TIOCPKT, TIOCSIG,
        TIOCSPTLCK, TIOCVHANGUP,
    },
};

use super::{
    Output, Tty, TtyFile, TtyKind,
    ioctl::caller,
    packet::{Change, PacketMode},
};
use crate::{
    fs::{
        CloseOnExec, Fd, FileOps, Inode, OpenFlags,
        current::credentials,
        device::{self, Device, DeviceClass},
        file::File,
        io::{Sink, Source},
        lookup::LastLink,
        open::{kernel_lookup, open_found},
        poll::{PollEvents, PollTable, wait_ready},
        sigio::{AsyncList, FileOwner, Readiness, Target},
        types::{DeviceId, Timestamp},
    },
    prelude::*,
    signal::SIGNAL_COUNT,
    wait::WaitQueue,
};

/// The major number of the terminals.
const MAJOR: u32 = 136;
/// The most pairs.
const MAX_PAIRS: u32 = 4096;
/// How many bytes of output are kept for the master.
const CAPACITY: usize = 8192;
/// How many bytes the master writes in one go.
const CHUNK: usize = 512;
/// The group of terminals (`tty`), and what their nodes allow.
const TTY_GROUP: u32 = 5;
const MODE: u16 = 0o620;

static PAIRS: Mutex<BTreeMap<u32, Arc<Pty>>> = Mutex::new(BTreeMap::new());

/// A pair.
pub struct Pty {
    index: u32,
    tty: Arc<Tty>,
    end: Arc<MasterEnd>,
    is_locked: AtomicBool,
    /// The attributes of its node.
    pub(crate) node: SpinLock<NodeAttr>,
}

/// Attributes of a terminal's node that can be changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeAttr {
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub born: Timestamp,
}

/// What the terminal writes to and the master reads from.
struct MasterEnd {
    state: SpinLock<State>,
    readable: Arc<WaitQueue>,
    /// Masters that want signals.
    async_list: AsyncList,
}

#[derive(Default)]
struct State {
    to_master: VecDeque<u8>,
    /// Open files of the terminal.
    slaves: usize,
    /// Whether the last of them has been closed.
    was_closed: bool,
    packet_mode: PacketMode,
}

/// What one read of the master gets.
struct Packet {
    /// The first byte, in packet mode.
    header: Option<u8>,
    data: Vec<u8>,
}

impl State {
    fn take(&mut self, max: usize) -> Result<Packet> {
        if let Some(status) = self.packet_mode.take_status() {
            return Ok(Packet { header: Some(status), data: Vec::new() });
        }
        if self.to_master.is_empty() {
            return Err(if self.was_closed { EIO } else { EAGAIN });
        }
        let header = self.packet_mode.is_on().then_some(TIOCPKT_DATA as u8);
        let count = self.to_master.len().min(max - usize::from(header.is_some()));
        let mut data = try_with_capacity(count)?;
        data.extend(self.to_master.drain(..count));
        Ok(Packet { header, data })
    }
}

impl Output for MasterEnd {
    fn room(&self) -> usize {
        CAPACITY.saturating_sub(self.state.lock().to_master.len())
    }

    fn show(&self, bytes: &[u8]) {
        let mut state = self.state.lock();
        let room = CAPACITY.saturating_sub(state.to_master.len());
        let shown = &bytes[..bytes.len().min(room)];
        // What there is no memory for is lost.
        if try_reserve(&mut state.to_master, shown.len()).is_ok() {
            state.to_master.extend(shown);
        }
        drop(state);
        self.readable.wake_all();
        if !bytes.is_empty() {
            self.async_list.tell(Readiness::In);
        }
    }

    fn changed(&self, change: Change) {
        let is_news = self.state.lock().packet_mode.note(change);
        if is_news {
            self.readable.wake_all();
        }
    }

    fn opened(&self) {
        let mut state = self.state.lock();
        state.slaves += 1;
        state.was_closed = false;
    }

    fn closed(&self) {
        let mut state = self.state.lock();
        state.slaves -= 1;
        state.was_closed = state.slaves == 0;
        drop(state);
        self.readable.wake_all();
    }
}

/// The number of the next pair from `first` on, for `/dev/pts`.
pub(crate) fn next_pair(first: u32) -> Option<u32> {
    PAIRS.lock().range(first..).next().map(|(index, _)| *index)
}

/// The pair with this number.
pub(crate) fn pair(index: u32) -> Option<Arc<Pty>> {
    PAIRS.lock().get(&index).cloned()
}

impl Pty {
    /// The number of the terminal's device.
    pub fn device(&self) -> DeviceId {
        DeviceId::new(MAJOR, self.index)
    }
}

/// The driver behind `/dev/ptmx`.
pub struct Ptmx;

impl Device for Ptmx {
    fn open(&self, _inode: &Arc<dyn Inode>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        let mut pairs = PAIRS.lock();
        let index = (0..MAX_PAIRS).find(|index| !pairs.contains_key(index)).ok_or(ENOSPC)?;
        let end = Arc::new(MasterEnd {
            state: SpinLock::new(State::default()),
            readable: Arc::new(WaitQueue::new()),
            async_list: AsyncList::default(),
        });
        let born = crate::fs::current::now();
        let node = NodeAttr { mode: MODE, uid: credentials().fsuid, gid: TTY_GROUP, born };
        let pty = Arc::new(Pty {
            index,
            tty: Tty::new(DeviceId::new(MAJOR, index), TtyKind::Pseudo, end.clone()),
            end,
            is_locked: AtomicBool::new(true),
            node: SpinLock::new(node),
        });
        pairs.insert(index, pty.clone());
        device::register(DeviceClass::Char, pty.device(), Arc::new(SlaveDevice(Arc::downgrade(&pty))));
        Ok(Arc::new(Master(pty)))
    }
}

/// The driver behind a terminal's node.
struct SlaveDevice(Weak<Pty>);

impl Device for SlaveDevice {
    fn open(&self, _inode: &Arc<dyn Inode>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        let pty = self.0.upgrade().ok_or(EIO)?;
        if pty.is_locked.load(Ordering::Relaxed) {
            return Err(EIO);
        }
        TtyFile::open(&pty.tty, flags)
    }
}

/// The master's end as an open file.
struct Master(Arc<Pty>);

impl Drop for Master {
    fn drop(&mut self) {
        let pty = &self.0;
        let removed = PAIRS.lock().remove(&pty.index);
        device::unregister(DeviceClass::Char, pty.device());
        pty.tty.remove();
        drop(removed);
    }
}

impl FileOps for Master {
    fn read(&self, file: &File, dst: &mut Sink<'_>) -> Result<usize> {
        if dst.avail() == 0 {
            return Ok(0);
        }
        let end = &self.0.end;
        let packet = wait_ready(&end.readable, file.blocking(), || end.state.lock().take(dst.avail()))?;
        self.0.tty.writable().wake_all();
        let header = match packet.header {
            Some(byte) => dst.write_bytes(&[byte]),
            None => Ok(0),
        };
        let copied = match header {
            Ok(_) if packet.data.is_empty() => header,
            Ok(header) => dst.write_bytes(&packet.data).map(|count| header + count),
            Err(error) => Err(error),
        };
        let taken = copied.as_ref().map_or(0, |count| count - usize::from(packet.header.is_some()));
        let mut state = end.state.lock();
        packet.data[taken..].iter().rev().for_each(|byte| state.to_master.push_front(*byte));
        if let (Err(_), Some(status)) = (&copied, packet.header) {
            state.packet_mode.untake_status(status);
        }
        copied
    }

    fn write(&self, file: &File, src: &mut Source<'_>) -> Result<usize> {
        let tty = &self.0.tty;
        let mut total = 0;
        let mut buffer = [0; CHUNK];
        while src.remain() > 0 {
            let room = wait_ready(tty.input_taken(), file.blocking(), || {
                if self.0.end.state.lock().was_closed {
                    return Err(EIO);
                }
                match tty.input_room() {
                    0 => Err(EAGAIN),
                    room => Ok(room),
                }
            });
            let step = room.and_then(|room| src.read_bytes(&mut buffer[..room.min(CHUNK)]));
            match step {
                Ok(count) => {
                    tty.receive(&buffer[..count]);
                    total += count;
                }
                Err(_) if total > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    fn set_async(&self, owner: &Arc<FileOwner>, fd: Option<Fd>) -> Result<()> {
        self.0.end.async_list.set(owner, fd);
        if let (Some(_), Some(thread)) = (fd, Thread::current()) {
            owner.set_target_if_none(Target::Process(Arc::downgrade(thread.process())));
        }
        Ok(())
    }

    fn poll(&self, _file: &File, table: &mut PollTable) -> PollEvents {
        let Pty { tty, end, .. } = &*self.0;
        table.observe(&end.readable);
        table.observe(tty.input_taken());
        let mut events = PollEvents::empty();
        let has_room = tty.input_room() > 0;
        let state = end.state.lock();
        if !state.to_master.is_empty() {
            events |= PollEvents::READABLE;
        }
        if state.packet_mode.has_status() {
            events |= PollEvents::READABLE | PollEvents::PRI;
        }
        if state.was_closed {
            events |= PollEvents::HUP;
        }
        if has_room {
            events |= PollEvents::WRITABLE;
        }
        events
    }

    fn ioctl(&self, _file: &File, command: u32, arg: usize) -> Result<usize> {
        let pty = &self.0;
        match command {
            TIOCGPTN => caller()?.write_val(arg, &pty.index)?,
            TIOCSPTLCK => {
                let lock: i32 = caller()?.read_val(arg)?;
                pty.is_locked.store(lock != 0, Ordering::Relaxed);
            }
            TIOCGPTLCK => {
                caller()?.write_val(arg, &i32::from(pty.is_locked.load(Ordering::Relaxed)))?;
            }
            TIOCPKT => {
                let mode: i32 = caller()?.read_val(arg)?;
                pty.end.state.lock().packet_mode.set(mode != 0);
            }
            TIOCGPKT => {
                let is_on = pty.end.state.lock().packet_mode.is_on();
                caller()?.write_val(arg, &i32::from(is_on))?;
            }
            TIOCGPTPEER => return self.open_peer(arg as u32),
            FIONREAD => {
                let count = pty.end.state.lock().to_master.len();
                caller()?.write_val(arg, &(count as i32))?;
            }
            // Whoever has the master may ask, whatever its own terminal is.
            TIOCGPGRP => caller()?.write_val(arg, &pty.tty.control().foreground)?,
            TIOCGSID => match pty.tty.control().session {
                0 => return Err(ENOTTY),
                session => caller()?.write_val(arg, &session)?,
            },
            TIOCSIG => {
                let signal = u8::try_from(arg).map_err(|_| EINVAL)?;
                if !(1..=SIGNAL_COUNT).contains(&usize::from(signal)) {
                    return Err(EINVAL);
                }
                pty.tty.signal_foreground(signal);
            }
            // It is for the terminal, and this end is closed instead.
            TIOCVHANGUP => return Err(ENOTTY),
            _ => return pty.tty.ioctl(command, arg),
        }
        Ok(0)
    }
}

impl Master {
    /// `TIOCGPTPEER`: opens the terminal, whatever is mounted on `/dev/pts` for the caller.
    fn open_peer(&self, flags: u32) -> Result<usize> {
        let thread = Thread::current().ok_or(EIO)?;
        let flags = OpenFlags::from_bits_truncate(flags);
        let lookup = kernel_lookup();
        let path = format!("/dev/pts/{}", self.0.index);
        let place = lookup.find(path.as_bytes(), LastLink::Stay)?;
        let file = open_found(&lookup, place, flags)?;
        let close_on_exec = CloseOnExec::from_flag(flags.contains(OpenFlags::CLOEXEC));
        let limit = thread.process().rlimits.soft(linux_raw_sys::general::RLIMIT_NOFILE);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        thread.files().insert(file, close_on_exec, 0, limit).map(|fd| fd as usize)
    }
}
