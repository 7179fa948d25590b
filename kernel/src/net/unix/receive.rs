// SPDX-License-Identifier: MPL-2.0

//! Receiving: bytes out of a stream, or one message.

use bitflags::bitflags;
use linux_raw_sys::net::{MSG_CMSG_CLOEXEC, MSG_DONTWAIT, MSG_OOB, MSG_PEEK, MSG_TRUNC, MSG_WAITALL};

use super::{
    Role, SHUT_READ, Socket, SocketKind,
    address::Address,
    message::{Inbox, Message, UCred},
};
use crate::{
    fs::{File, io::Sink, poll::Blocking, sigio::Readiness},
    prelude::*,
};

bitflags! {
    /// Flags of `recv(2)`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ReceiveFlags: u32 {
        /// Urgent data, which is not supported.
        const OOB = MSG_OOB;
        /// Leave what is read where it is.
        const PEEK = MSG_PEEK;
        /// Do not wait.
        const DONTWAIT = MSG_DONTWAIT;
        /// Wait for all that was asked for.
        const WAITALL = MSG_WAITALL;
        /// Tell the whole length of a message.
        const TRUNC = MSG_TRUNC;
        /// Close received descriptors on execve.
        const CMSG_CLOEXEC = MSG_CMSG_CLOEXEC;
    }
}

/// What was received, beside its bytes.
#[derive(Default)]
pub struct Received {
    /// What the call answers.
    pub count: usize,
    /// Where the first byte comes from.
    pub from: Option<Arc<Address>>,
    /// Who has sent it, if the socket wants to know.
    pub credentials: Option<UCred>,
    /// Files that came with it.
    pub files: Vec<Arc<File>>,
    /// Whether a part of the message was lost.
    pub is_truncated: bool,
}

impl Socket {
    /// Receives into `dst`.
    ///
    /// # Errors
    ///
    /// Those of `recv(2)`.
    pub fn receive(&self, dst: &mut Sink<'_>, flags: ReceiveFlags, blocking: Blocking) -> Result<Received> {
        if flags.contains(ReceiveFlags::OOB) {
            return Err(EOPNOTSUPP);
        }
        let blocking = if flags.contains(ReceiveFlags::DONTWAIT) { Blocking::No } else { blocking };
        match (self.kind, &self.state.lock().role) {
            (SocketKind::Datagram, _) | (_, Role::Connected { .. }) => {}
            (SocketKind::Stream, _) => return Err(EINVAL),
            (SocketKind::SeqPacket, _) => return Err(ENOTCONN),
        }
        let mut received = match self.kind {
            SocketKind::Stream => self.receive_stream(dst, flags, blocking)?,
            SocketKind::Datagram | SocketKind::SeqPacket => self.receive_message(dst, flags, blocking)?,
        };
        if !self.options.passes_credentials() {
            received.credentials = None;
        }
        Ok(received)
    }

    /// Why there is nothing in the inbox, or will be: the error to report, or the end.
    fn nothing(&self) -> Result<()> {
        if let Some(error) = self.take_error() {
            return Err(error);
        }
        if self.is_shut(SHUT_READ) { Ok(()) } else { Err(EAGAIN) }
    }

    /// Tells that there is room for others to send.
    fn tell_room(&self) {
        self.drained.wake_all();
        if let Some(peer) = self.peer() {
            peer.writable.wake_all();
            if peer.lacks_room.swap(false, Ordering::Relaxed) {
                peer.async_list.tell(Readiness::Out);
            }
        }
    }

    fn receive_stream(
        &self,
        dst: &mut Sink<'_>,
        flags: ReceiveFlags,
        blocking: Blocking,
    ) -> Result<Received> {
        let deadline = self.options.receive_deadline();
        let mut received = Received::default();
        let is_peek = flags.contains(ReceiveFlags::PEEK);
        let wants_all = flags.contains(ReceiveFlags::WAITALL) && !is_peek;
        if dst.avail() == 0 {
            // Only whether there is something at all.
            let step = self.wait_on(&self.readable, blocking, deadline, || {
                if self.inbox.lock().is_empty() { self.nothing() } else { Ok(()) }
            });
            return step.map(|()| received);
        }
        loop {
            let step = self.wait_on(&self.readable, blocking, deadline, || {
                let mut inbox = self.inbox.lock();
                if inbox.is_empty() {
                    drop(inbox);
                    return self.nothing().map(|()| Step::End);
                }
                match is_peek {
                    true => self.peek_stream(&inbox, dst, &mut received),
                    false => self.take_stream(&mut inbox, dst, &mut received),
                }
            });
            match step {
                Ok(Step::More) if wants_all && dst.avail() > 0 => {}
                Ok(_) => break,
                Err(_) if received.count > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(received)
    }

    /// Moves bytes from the inbox to `dst`, up to where the sender or what goes with the bytes changes.
    fn take_stream(&self, inbox: &mut Inbox, dst: &mut Sink<'_>, received: &mut Received) -> Result<Step> {
        let mut step = Step::More;
        let mut done = 0;
        while dst.avail() > 0 && step == Step::More {
            let Some(message) = inbox.front_mut() else { break };
            let Some(copied) = self.copy_piece(message, dst, received)? else {
                step = Step::Boundary;
                break;
            };
            message.start += copied;
            done += copied;
            if !message.files.is_empty() {
                received.files = message.files.take();
                step = Step::Boundary;
            }
            if message.rest().is_empty() {
                drop(inbox.pop());
            } else if dst.avail() > 0 {
                // Not all could be written.
                step = Step::Boundary;
            }
        }
        if done > 0 {
            self.tell_room();
        }
        Ok(step)
    }

    /// The same, and leaves everything where it is.
    fn peek_stream(&self, inbox: &Inbox, dst: &mut Sink<'_>, received: &mut Received) -> Result<Step> {
        for index in 0..inbox.len() {
            let Some(message) = inbox.get(index).filter(|_| dst.avail() > 0) else { break };
            if self.copy_piece(message, dst, received)?.is_none() {
                break;
            }
            if !message.files.is_empty() {
                received.files = message.files.files().to_vec();
                break;
            }
        }
        Ok(Step::Boundary)
    }

    /// Copies as much of a message as there is room for, and answers how much that was; nothing, if what was received before
    /// is to be returned without it.
    fn copy_piece(
        &self,
        message: &Message,
        dst: &mut Sink<'_>,
        received: &mut Received,
    ) -> Result<Option<usize>> {
        if received.count > 0 && self.differs(received, message.credentials) {
            return Ok(None);
        }
        let rest = message.rest();
        let copied = match dst.write_bytes(&rest[..rest.len().min(dst.avail())]) {
            Ok(copied) => copied,
            Err(_) if received.count > 0 => return Ok(None),
            Err(error) => return Err(error),
        };
        if received.count == 0 {
            received.from = message.from.clone();
            received.credentials = Some(message.credentials);
        }
        received.count += copied;
        Ok(Some(copied))
    }

    /// Whether bytes of this sender must not be added to what was received.
    fn differs(&self, received: &Received, credentials: UCred) -> bool {
        self.options.passes_credentials() && received.credentials.is_some_and(|first| first != credentials)
    }

    fn receive_message(
        &self,
        dst: &mut Sink<'_>,
        flags: ReceiveFlags,
        blocking: Blocking,
    ) -> Result<Received> {
        let deadline = self.options.receive_deadline();
        let is_peek = flags.contains(ReceiveFlags::PEEK);
        self.wait_on(&self.readable, blocking, deadline, || {
            let mut inbox = self.inbox.lock();
            let Some(message) = inbox.front_mut() else {
                drop(inbox);
                // A datagram socket that is shut down still waits only if it may.
                return self.nothing().map(|()| Received::default());
            };
            let len = message.rest().len();
            let wanted = len.min(dst.avail());
            let copied = if wanted > 0 { dst.write_bytes(&message.rest()[..wanted])? } else { 0 };
            if copied < wanted {
                return Err(EFAULT);
            }
            let received = Received {
                count: if flags.contains(ReceiveFlags::TRUNC) { len } else { copied },
                from: message.from.clone(),
                credentials: Some(message.credentials),
                files: match is_peek {
                    true => message.files.files().to_vec(),
                    false => message.files.take(),
                },
                is_truncated: copied < len,
            };
            let read = if is_peek { None } else { inbox.pop() };
            drop(inbox);
            if read.is_some() {
                self.tell_room();
            }
            Ok(received)
        })
    }

    /// How many bytes can be received (`SIOCINQ`): all of a stream's, those of the next message otherwise.
    ///
    /// # Errors
    ///
    /// EINVAL if it listens.
    pub(super) fn unread(&self) -> Result<usize> {
        if self.has_connections().is_some() {
            return Err(EINVAL);
        }
        let inbox = self.inbox.lock();
        Ok(match self.kind {
            SocketKind::Stream => inbox.bytes(),
            SocketKind::Datagram | SocketKind::SeqPacket => {
                inbox.get(0).map_or(0, |message| message.rest().len())
            }
        })
    }
}

/// How an attempt to read a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// More could follow.
    More,
    /// What follows belongs to another read.
    Boundary,
    /// There is no more.
    End,
}
