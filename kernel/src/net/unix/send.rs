// SPDX-License-Identifier: MPL-2.0

//! Sending: bytes into a stream, messages to a peer or to an address.

use bitflags::bitflags;
use linux_raw_sys::net::{MSG_DONTWAIT, MSG_EOR, MSG_MORE, MSG_NOSIGNAL, MSG_OOB};

use super::{
    Role, SHUT_READ, SHUT_WRITE, Socket, SocketKind,
    address::Given,
    message::{Control, FlyingFiles, Message, UCred},
};
use crate::{
    fs::{io::Source, poll::Blocking},
    prelude::*,
    wait::WaitQueue,
};

/// The most bytes of a stream in one message.
const PIECE: usize = 32 << 10;
/// What a message needs of the buffer beside its bytes.
const MARGIN: usize = 32;
/// How many messages from strangers wait at a datagram socket at most (`net.unix.max_dgram_qlen`).
const MAX_QUEUE: usize = 10;

bitflags! {
    /// Flags of `send(2)`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SendFlags: u32 {
        /// Urgent data, which is not supported.
        const OOB = MSG_OOB;
        /// Do not wait.
        const DONTWAIT = MSG_DONTWAIT;
        /// No `SIGPIPE`.
        const NOSIGNAL = MSG_NOSIGNAL;
        /// The end of a record; each message is one.
        const EOR = MSG_EOR;
        /// More will follow.
        const MORE = MSG_MORE;
    }
}

impl Socket {
    /// Sends what is in `src`, to `to` if it says so.
    ///
    /// # Errors
    ///
    /// Those of `send(2)`; EPIPE, for which the caller sends the signal.
    pub fn send(
        &self,
        src: &mut Source<'_>,
        to: Option<Given>,
        control: Control,
        flags: SendFlags,
        blocking: Blocking,
    ) -> Result<usize> {
        if flags.contains(SendFlags::OOB) {
            return Err(EOPNOTSUPP);
        }
        // What waits in sockets is the kernel's memory and no program's.
        crate::fs::current::require_memory()?;
        let blocking = if flags.contains(SendFlags::DONTWAIT) { Blocking::No } else { blocking };
        let credentials = match control.credentials {
            Some(credentials) => {
                credentials.check()?;
                credentials
            }
            None => UCred::real(),
        };
        match self.kind {
            SocketKind::Stream => {
                if to.is_some() {
                    return Err(if self.is_connected() { EISCONN } else { EOPNOTSUPP });
                }
                self.send_stream(src, control.files, credentials, blocking)
            }
            SocketKind::SeqPacket => {
                if !self.is_connected() {
                    return Err(ENOTCONN);
                }
                self.send_message(src, None, control.files, credentials, blocking)
            }
            SocketKind::Datagram => self.send_message(src, to, control.files, credentials, blocking),
        }
    }

    /// Waits in `queue` until `attempt` gives something else than EAGAIN.
    ///
    /// # Errors
    ///
    /// Those of `attempt`; EAGAIN at the deadline; ERESTARTSYS, or EINTR if there is a deadline: a restart would wait too long.
    pub(super) fn wait_on<T>(
        &self,
        queue: &WaitQueue,
        blocking: Blocking,
        deadline: Option<Duration>,
        mut attempt: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        if blocking == Blocking::No {
            return attempt();
        }
        let waited = queue.wait_interruptible(deadline, || match attempt() {
            Err(EAGAIN) => None,
            done => Some(done),
        });
        match waited {
            Ok(done) => done,
            Err(ETIMEDOUT) => Err(EAGAIN),
            Err(ERESTARTSYS) if deadline.is_some() => Err(EINTR),
            Err(error) => Err(error),
        }
    }

    /// The living peer of a connection that bytes can be sent over.
    fn open_peer(&self) -> Result<Arc<Socket>> {
        if let Some(error) = self.take_error() {
            return Err(error);
        }
        if !self.is_connected() {
            return Err(ENOTCONN);
        }
        if self.is_shut(SHUT_WRITE) {
            return Err(EPIPE);
        }
        self.peer().filter(|peer| !peer.is_shut(SHUT_READ)).ok_or(EPIPE)
    }

    fn send_stream(
        &self,
        src: &mut Source<'_>,
        files: Vec<Arc<crate::fs::File>>,
        credentials: UCred,
        blocking: Blocking,
    ) -> Result<usize> {
        self.open_peer()?;
        let mut files = Some(FlyingFiles::new(files)?);
        let deadline = self.options.send_deadline();
        let from = self.address();
        let mut total = 0;
        while src.remain() > 0 {
            let room = self.wait_on(&self.writable, blocking, deadline, || {
                let peer = self.open_peer()?;
                let charge = peer.inbox.lock().charge();
                let room = self.options.send_buffer().saturating_sub(charge);
                if room == 0 {
                    self.lacks_room.store(true, Ordering::Relaxed);
                    return Err(EAGAIN);
                }
                Ok((peer, room))
            });
            let step = room.and_then(|(peer, room)| Ok((peer, src.read_all(room.min(PIECE))?)));
            match step {
                Ok((peer, data)) => {
                    let files = match files.take() {
                        Some(files) => files,
                        None => FlyingFiles::new(Vec::new())?,
                    };
                    let delivered = peer.deliver(Message::new(data, from.clone(), credentials, files));
                    match delivered {
                        Ok(len) => total += len,
                        Err(_) if total > 0 => break,
                        Err(error) => return Err(error),
                    }
                }
                Err(_) if total > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    /// Puts a message into the inbox, and answers how many bytes that were.
    fn deliver(&self, message: Message) -> Result<usize> {
        let len = message.rest().len();
        let mut inbox = self.inbox.lock();
        inbox.reserve()?;
        inbox.push(message);
        drop(inbox);
        self.tell_input();
        Ok(len)
    }

    fn send_message(
        &self,
        src: &mut Source<'_>,
        to: Option<Given>,
        files: Vec<Arc<crate::fs::File>>,
        credentials: UCred,
        blocking: Blocking,
    ) -> Result<usize> {
        let to = to.map(Given::required).transpose()?;
        if self.options.passes_credentials() {
            self.bind_anywhere()?;
        }
        if to.is_none() && !self.is_connected() {
            return Err(ENOTCONN);
        }
        if src.remain() + MARGIN > self.options.send_buffer() {
            return Err(EMSGSIZE);
        }
        let files = FlyingFiles::new(files)?;
        let len = src.remain();
        let data = src.read_all(len)?;
        let deadline = self.options.send_deadline();
        let mut message = Some(Message::new(data, self.address(), credentials, files));
        let find = || match &to {
            Some(address) => address.find(self.kind),
            None => self.message_peer(),
        };
        let first = find()?;
        // A peer's own room is told to `writable`, a stranger's to those who wait there.
        let queue = if self.kind.is_connected() { &self.writable } else { &first.drained };
        self.wait_on(queue, blocking, deadline, || {
            let peer = find()?;
            if let Some(error) = self.take_error() {
                return Err(error);
            }
            if !self.kind.is_connected() {
                self.check_may_send(&peer)?;
            }
            if self.is_shut(SHUT_WRITE) || peer.is_shut(SHUT_READ) {
                return Err(EPIPE);
            }
            let mut inbox = peer.inbox.lock();
            let is_full = match self.kind.is_connected() || self.is_peer_of(&peer) {
                true => inbox.charge() > 0 && inbox.charge() + len > self.options.send_buffer(),
                false => inbox.len() > MAX_QUEUE,
            };
            if is_full {
                self.lacks_room.store(true, Ordering::Relaxed);
                return Err(EAGAIN);
            }
            inbox.reserve()?;
            if let Some(message) = message.take() {
                inbox.push(message);
            }
            drop(inbox);
            peer.tell_input();
            Ok(())
        })?;
        Ok(len)
    }

    /// Who a message without an address goes to.
    fn message_peer(&self) -> Result<Arc<Socket>> {
        match (self.peer(), self.kind) {
            (Some(peer), _) => Ok(peer),
            (None, SocketKind::Datagram) => {
                // The peer is gone for good.
                let old = core::mem::replace(&mut self.state.lock().role, Role::Idle);
                drop(old);
                Err(ECONNREFUSED)
            }
            (None, _) => Err(self.take_error().unwrap_or(EPIPE)),
        }
    }

    /// Whether `other`'s messages go to this socket and to no other.
    fn is_peer_of(&self, other: &Socket) -> bool {
        match &other.state.lock().role {
            Role::Connected { peer, .. } => Weak::ptr_eq(peer, &self.this),
            _ => false,
        }
    }

    /// Whether something could be sent at once.
    pub(super) fn has_send_room(&self) -> bool {
        let Some(peer) = self.peer() else { return true };
        let (charge, len) = {
            let inbox = peer.inbox.lock();
            (inbox.charge(), inbox.len())
        };
        // As in Linux, writable means that three quarters of the buffer are free.
        let has_room = 4 * charge <= self.options.send_buffer();
        has_room && (self.kind.is_connected() || self.is_peer_of(&peer) || len <= MAX_QUEUE)
    }

    /// How much of what was sent the peer has not read (`SIOCOUTQ`).
    pub(super) fn unread_by_peer(&self) -> usize {
        self.peer().map_or(0, |peer| peer.inbox.lock().charge())
    }

    /// Where others wait to send to this socket's peer, for polling.
    pub(super) fn peer_drained(&self) -> Option<Arc<WaitQueue>> {
        self.peer().map(|peer| peer.drained.clone())
    }
}
