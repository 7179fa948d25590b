// SPDX-License-Identifier: MPL-2.0

//! A socket as an open file.

use linux_raw_sys::ioctl::{FIONREAD, TIOCOUTQ};

use super::{
    Role, SHUT_BOTH, SHUT_READ, Socket, garbage, message::Control, receive::ReceiveFlags, send::SendFlags,
};
use crate::{
    fs::{
        Fd, File, FileOps,
        io::{Sink, Source},
        poll::{PollEvents, PollTable},
        sigio::FileOwner,
    },
    prelude::*,
};

impl FileOps for Socket {
    fn read(&self, file: &File, dst: &mut Sink<'_>) -> Result<usize> {
        if dst.avail() == 0 {
            return Ok(0);
        }
        self.receive(dst, ReceiveFlags::empty(), file.blocking()).map(|received| received.count)
    }

    fn write(&self, file: &File, src: &mut Source<'_>) -> Result<usize> {
        self.send(src, None, Control::default(), SendFlags::empty(), file.blocking())
    }

    fn poll(&self, _file: &File, table: &mut PollTable) -> PollEvents {
        table.observe(&self.readable);
        table.observe(&self.writable);
        if !self.kind.is_connected()
            && let Some(drained) = self.peer_drained()
        {
            table.observe(&drained);
        }
        let mut events = PollEvents::empty();
        if self.error.load(Ordering::SeqCst) != 0 {
            events |= PollEvents::ERR;
        }
        let shut = self.shut.load(Ordering::SeqCst);
        if shut & SHUT_BOTH == SHUT_BOTH {
            events |= PollEvents::HUP;
        }
        if shut & SHUT_READ != 0 {
            events |= PollEvents::RDHUP | PollEvents::READABLE;
        }
        let is_idle = matches!(self.state.lock().role, Role::Idle);
        if self.kind.is_connected() && is_idle {
            events |= PollEvents::HUP;
        }
        match self.has_connections() {
            Some(true) => return events | PollEvents::READABLE,
            Some(false) => return events,
            None => {}
        }
        if !self.inbox.lock().is_empty() {
            events |= PollEvents::READABLE;
        }
        if self.has_send_room() {
            events |= PollEvents::WRITABLE | PollEvents::WRBAND;
        }
        events
    }

    fn set_async(&self, owner: &Arc<FileOwner>, fd: Option<Fd>) -> Result<()> {
        self.async_list.set(owner, fd);
        Ok(())
    }

    fn ioctl(&self, _file: &File, command: u32, arg: usize) -> Result<usize> {
        // `SIOCINQ` and `SIOCOUTQ` are these.
        let value = match command {
            FIONREAD => self.unread()?,
            TIOCOUTQ => self.unread_by_peer(),
            _ => return Err(ENOTTY),
        };
        let vm = Thread::current().and_then(|thread| thread.process().vm()).ok_or(EFAULT)?;
        vm.write_val(arg, &(value as i32))?;
        Ok(0)
    }

    fn release(&self, _file: &File) {
        self.close();
        garbage::collect();
    }
}
