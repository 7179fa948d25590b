// SPDX-License-Identifier: MPL-2.0

//! Options of sockets (`socket(7)`, `unix(7)`).

use linux_raw_sys::net::{
    AF_UNIX, SO_ACCEPTCONN, SO_BROADCAST, SO_DEBUG, SO_DOMAIN, SO_DONTROUTE, SO_ERROR, SO_KEEPALIVE,
    SO_LINGER, SO_OOBINLINE, SO_PASSCRED, SO_PEERCRED, SO_PRIORITY, SO_PROTOCOL, SO_RCVBUF, SO_RCVBUFFORCE,
    SO_RCVLOWAT, SO_RCVTIMEO_OLD, SO_REUSEADDR, SO_REUSEPORT, SO_SNDBUF, SO_SNDBUFFORCE, SO_SNDLOWAT,
    SO_SNDTIMEO_OLD, SO_TYPE, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM,
};
use zerocopy::IntoBytes;

use super::{Socket, SocketKind};
use crate::{
    prelude::*,
    process::credentials::CapSet,
    time::{TimeSpec, monotonic},
};

/// The sizes of buffers: at the start, and the largest that can be asked for (`net.core.wmem_default`, `wmem_max`).
const DEFAULT_BUFFER: usize = 212_992;
const MAX_BUFFER: usize = 212_992;
/// The least sizes of buffers, after doubling.
const MIN_SEND_BUFFER: usize = 4608;
const MIN_RECEIVE_BUFFER: usize = 2304;

/// The options of a socket.
pub struct Options {
    /// Options that are only on or off: bit `n` for option `n`.
    switches: AtomicU64,
    send_buffer: AtomicUsize,
    receive_buffer: AtomicUsize,
    low_water: AtomicI32,
    priority: AtomicI32,
    linger: SpinLock<[i32; 2]>,
    /// In nanoseconds; 0 for none.
    send_timeout: AtomicU64,
    receive_timeout: AtomicU64,
}

/// `struct timeval`.
#[repr(C)]
#[derive(Pod, Clone, Copy)]
struct TimeVal {
    seconds: i64,
    micros: i64,
}

impl Options {
    pub(super) fn new() -> Self {
        Self {
            switches: AtomicU64::new(0),
            send_buffer: AtomicUsize::new(DEFAULT_BUFFER),
            receive_buffer: AtomicUsize::new(DEFAULT_BUFFER),
            low_water: AtomicI32::new(1),
            priority: AtomicI32::new(0),
            linger: SpinLock::new([0; 2]),
            send_timeout: AtomicU64::new(0),
            receive_timeout: AtomicU64::new(0),
        }
    }

    /// Takes over what an accepted socket has of its listener.
    pub(super) fn inherit(&self, listener: &Self) {
        self.switches.store(listener.switches.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Whether messages are received with credentials.
    pub(super) fn passes_credentials(&self) -> bool {
        self.is_on(SO_PASSCRED)
    }

    /// The size of the send buffer.
    pub(super) fn send_buffer(&self) -> usize {
        self.send_buffer.load(Ordering::Relaxed)
    }

    pub(super) fn send_deadline(&self) -> Option<Duration> {
        deadline(&self.send_timeout)
    }

    pub(super) fn receive_deadline(&self) -> Option<Duration> {
        deadline(&self.receive_timeout)
    }

    fn is_on(&self, option: u32) -> bool {
        self.switches.load(Ordering::Relaxed) & 1 << option != 0
    }

    fn switch(&self, option: u32, is_on: bool) {
        if is_on {
            self.switches.fetch_or(1 << option, Ordering::Relaxed);
        } else {
            self.switches.fetch_and(!(1 << option), Ordering::Relaxed);
        }
    }
}

fn deadline(timeout: &AtomicU64) -> Option<Duration> {
    match timeout.load(Ordering::Relaxed) {
        0 => None,
        nanos => Some(monotonic().saturating_add(Duration::from_nanos(nanos))),
    }
}

fn integer(bytes: &[u8]) -> Result<i32> {
    let first = bytes.get(..size_of::<i32>()).ok_or(EINVAL)?;
    Ok(i32::from_bytes(first))
}

/// A size that was asked for, doubled to make room for what the kernel adds.
fn buffer_size(bytes: &[u8], least: usize) -> Result<usize> {
    let wanted = usize::try_from(integer(bytes)?).unwrap_or(0).min(MAX_BUFFER);
    Ok((2 * wanted).max(least))
}

fn timeout(bytes: &[u8]) -> Result<u64> {
    let bytes = bytes.get(..size_of::<TimeVal>()).ok_or(EINVAL)?;
    let value = TimeVal::from_bytes(bytes);
    if !(0..1_000_000).contains(&value.micros) {
        return Err(EDOM);
    }
    if value.seconds < 0 {
        // Not at all: as short as can be.
        return Ok(1);
    }
    let spec = TimeSpec { seconds: value.seconds, nanos: value.micros * 1000 };
    Ok(u64::try_from(spec.to_duration()?.as_nanos()).unwrap_or(0))
}

fn time_value(timeout: &AtomicU64) -> Vec<u8> {
    let duration = Duration::from_nanos(timeout.load(Ordering::Relaxed));
    let value = TimeVal { seconds: duration.as_secs() as i64, micros: duration.subsec_micros().into() };
    value.as_bytes().to_vec()
}

impl Socket {
    /// `setsockopt(2)` at `SOL_SOCKET`.
    ///
    /// # Errors
    ///
    /// ENOPROTOOPT for an option there is not; EINVAL for a value that is too short; EPERM; EDOM.
    pub fn set_option(&self, option: u32, bytes: &[u8]) -> Result<()> {
        let options = &self.options;
        match option {
            SO_DEBUG | SO_REUSEADDR | SO_DONTROUTE | SO_BROADCAST | SO_KEEPALIVE | SO_OOBINLINE
            | SO_REUSEPORT | SO_PASSCRED => options.switch(option, integer(bytes)? != 0),
            SO_SNDBUF | SO_SNDBUFFORCE => {
                require_for_force(option == SO_SNDBUFFORCE)?;
                let size = buffer_size(bytes, MIN_SEND_BUFFER)?;
                options.send_buffer.store(size, Ordering::Relaxed);
                self.writable.wake_all();
            }
            SO_RCVBUF | SO_RCVBUFFORCE => {
                require_for_force(option == SO_RCVBUFFORCE)?;
                let size = buffer_size(bytes, MIN_RECEIVE_BUFFER)?;
                options.receive_buffer.store(size, Ordering::Relaxed);
            }
            SO_PRIORITY => options.priority.store(integer(bytes)?, Ordering::Relaxed),
            SO_RCVLOWAT => {
                let value = match integer(bytes)? {
                    0 => 1,
                    value if value < 0 => i32::MAX,
                    value => value,
                };
                options.low_water.store(value, Ordering::Relaxed);
            }
            SO_LINGER => {
                let is_on = integer(bytes)?;
                let seconds = integer(bytes.get(size_of::<i32>()..).ok_or(EINVAL)?)?;
                *options.linger.lock() = [i32::from(is_on != 0), seconds];
            }
            SO_SNDTIMEO_OLD => options.send_timeout.store(timeout(bytes)?, Ordering::Relaxed),
            SO_RCVTIMEO_OLD => options.receive_timeout.store(timeout(bytes)?, Ordering::Relaxed),
            _ => return Err(ENOPROTOOPT),
        }
        Ok(())
    }

    /// `getsockopt(2)` at `SOL_SOCKET`.
    ///
    /// # Errors
    ///
    /// ENOPROTOOPT for an option there is not.
    pub fn option(&self, option: u32) -> Result<Vec<u8>> {
        let options = &self.options;
        let value = match option {
            SO_DEBUG | SO_REUSEADDR | SO_DONTROUTE | SO_BROADCAST | SO_KEEPALIVE | SO_OOBINLINE
            | SO_REUSEPORT | SO_PASSCRED => i32::from(options.is_on(option)),
            SO_TYPE => match self.kind {
                SocketKind::Stream => SOCK_STREAM as i32,
                SocketKind::Datagram => SOCK_DGRAM as i32,
                SocketKind::SeqPacket => SOCK_SEQPACKET as i32,
            },
            SO_DOMAIN => AF_UNIX as i32,
            SO_PROTOCOL => 0,
            SO_ERROR => self.take_error().map_or(0, Errno::code),
            SO_ACCEPTCONN => i32::from(self.has_connections().is_some()),
            SO_SNDBUF => options.send_buffer() as i32,
            SO_RCVBUF => options.receive_buffer.load(Ordering::Relaxed) as i32,
            SO_PRIORITY => options.priority.load(Ordering::Relaxed),
            SO_RCVLOWAT => options.low_water.load(Ordering::Relaxed),
            SO_SNDLOWAT => 1,
            SO_LINGER => return Ok(options.linger.lock().as_bytes().to_vec()),
            SO_SNDTIMEO_OLD => return Ok(time_value(&options.send_timeout)),
            SO_RCVTIMEO_OLD => return Ok(time_value(&options.receive_timeout)),
            SO_PEERCRED => return Ok(self.state.lock().peer_credentials.as_bytes().to_vec()),
            _ => return Err(ENOPROTOOPT),
        };
        Ok(value.to_ne_bytes().to_vec())
    }
}

fn require_for_force(is_forced: bool) -> Result<()> {
    match Thread::current() {
        Some(thread) if is_forced => thread.credentials().require(CapSet::from_bits_retain(NET_ADMIN)),
        _ => Ok(()),
    }
}

/// `CAP_NET_ADMIN`.
const NET_ADMIN: u64 = 1 << 12;
