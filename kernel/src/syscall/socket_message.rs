// SPDX-License-Identifier: MPL-2.0

//! Sockets: sending and receiving.

use linux_raw_sys::net::{
    MSG_CMSG_CLOEXEC, MSG_CTRUNC, MSG_DONTWAIT, MSG_NOSIGNAL, MSG_TRUNC, SCM_CREDENTIALS, SCM_RIGHTS,
    SOL_SOCKET,
};
use zerocopy::IntoBytes;

use super::{
    fs_util::{fd_limit, sink, sinks, source, sources},
    socket::{find, of, read_address, write_address},
};
use crate::{
    fs::{CloseOnExec, Fd, File, current::signal_broken_pipe, io::Source},
    net::unix::{Address, Control, Given, ReceiveFlags, Received, SendFlags, UCred},
    prelude::*,
    time::{TimeSpec, monotonic},
    usermem::IOV_MAX,
};

/// The longest control data a program can send (`net.core.optmem_max`).
const MAX_CONTROL: usize = 131_072;
/// The most descriptors that one message passes on.
const MAX_DESCRIPTORS: usize = 253;
/// The longest address; what is beyond is cut off in `struct msghdr`.
const MAX_ADDRESS: u32 = 128;
/// `MSG_WAITFORONE`.
const WAIT_FOR_ONE: u32 = 0x10000;

/// `struct msghdr`.
#[repr(C)]
#[derive(Pod, Clone, Copy, Debug)]
struct MessageHeader {
    name: Vaddr,
    name_len: u32,
    padding: u32,
    buffers: Vaddr,
    buffer_count: usize,
    control: Vaddr,
    control_len: usize,
    flags: u32,
    padding_2: u32,
}

/// `struct mmsghdr`.
#[repr(C)]
#[derive(Pod, Clone, Copy, Debug)]
struct ManyHeader {
    header: MessageHeader,
    len: u32,
    padding: u32,
}

/// `struct cmsghdr`.
#[repr(C)]
#[derive(Pod, Clone, Copy, Debug)]
struct ControlHeader {
    len: usize,
    level: u32,
    kind: u32,
}

const CONTROL_HEADER: usize = size_of::<ControlHeader>();
const CONTROL_ALIGN: usize = size_of::<usize>();

impl MessageHeader {
    fn read(ctx: &Ctx, addr: Vaddr) -> Result<Self> {
        let mut header: Self = ctx.vm.read_val(addr)?;
        if header.name_len > i32::MAX as u32 {
            return Err(EINVAL);
        }
        if header.name == 0 {
            header.name_len = 0;
        }
        header.name_len = header.name_len.min(MAX_ADDRESS);
        if header.buffer_count > IOV_MAX {
            return Err(EMSGSIZE);
        }
        Ok(header)
    }
}

fn send(
    file: &Arc<File>,
    src: &mut Source<'_>,
    to: Option<Given>,
    control: Control,
    flags: u32,
) -> Result<usize> {
    let result = of(file)?.send(src, to, control, SendFlags::from_bits_truncate(flags), file.blocking());
    if result == Err(EPIPE) && flags & MSG_NOSIGNAL == 0 {
        signal_broken_pipe();
    }
    result
}

/// `sendto(2)`.
pub fn sys_sendto(
    ctx: &Ctx,
    fd: Fd,
    addr: Vaddr,
    len: usize,
    flags: u32,
    to: Vaddr,
    to_len: i32,
) -> Result<usize> {
    let file = find(ctx, fd)?;
    let mut src = source(ctx, addr, len)?;
    let to = if to == 0 { None } else { given(read_address(ctx, to, to_len)?)? };
    send(&file, &mut src, to, Control::default(), flags)
}

fn given(bytes: Vec<u8>) -> Result<Option<Given>> {
    if bytes.is_empty() { Ok(None) } else { Given::parse(&bytes).map(Some) }
}

/// `sendmsg(2)`.
pub fn sys_sendmsg(ctx: &Ctx, fd: Fd, message: Vaddr, flags: u32) -> Result<usize> {
    let file = find(ctx, fd)?;
    send_one(ctx, &file, message, flags)
}

fn send_one(ctx: &Ctx, file: &Arc<File>, message: Vaddr, flags: u32) -> Result<usize> {
    let header = MessageHeader::read(ctx, message)?;
    let to = given(read_address(ctx, header.name, header.name_len as i32)?)?;
    let mut src = sources(ctx, header.buffers, header.buffer_count)?;
    let control = read_control(ctx, &header)?;
    send(file, &mut src, to, control, flags)
}

/// `sendmmsg(2)`.
pub fn sys_sendmmsg(ctx: &Ctx, fd: Fd, messages: Vaddr, count: u32, flags: u32) -> Result<usize> {
    let file = find(ctx, fd)?;
    let count = (count as usize).min(IOV_MAX);
    for index in 0..count {
        let addr = messages + index * size_of::<ManyHeader>();
        let sent = send_one(ctx, &file, addr, flags)
            .and_then(|len| ctx.vm.write_val(addr + size_of::<MessageHeader>(), &(len as u32)));
        match sent {
            Ok(()) => {}
            Err(error) if index == 0 => return Err(error),
            Err(_) => return Ok(index),
        }
    }
    Ok(count)
}

/// Reads what is to be sent with a message (`cmsg(3)`).
fn read_control(ctx: &Ctx, header: &MessageHeader) -> Result<Control> {
    let mut control = Control::default();
    if header.control == 0 || header.control_len == 0 {
        return Ok(control);
    }
    if header.control_len > MAX_CONTROL {
        return Err(ENOBUFS);
    }
    let mut bytes = try_filled(0, header.control_len)?;
    ctx.vm.read_bytes(header.control, &mut bytes)?;
    let mut rest = &bytes[..];
    while let Some(first) = rest.get(..CONTROL_HEADER) {
        let part = ControlHeader::from_bytes(first);
        let data = rest.get(CONTROL_HEADER..part.len).ok_or(EINVAL)?;
        if part.level == SOL_SOCKET {
            match part.kind {
                SCM_RIGHTS => add_files(ctx, &mut control, data)?,
                SCM_CREDENTIALS if data.len() == size_of::<UCred>() => {
                    control.credentials = Some(UCred::from_bytes(data));
                }
                _ => return Err(EINVAL),
            }
        }
        rest = rest.get(part.len.next_multiple_of(CONTROL_ALIGN)..).unwrap_or(&[]);
    }
    Ok(control)
}

fn add_files(ctx: &Ctx, control: &mut Control, data: &[u8]) -> Result<()> {
    let (fds, _) = data.as_chunks();
    let fds = fds.iter().map(|fd| Fd::from_ne_bytes(*fd));
    if control.files.len() + fds.len() > MAX_DESCRIPTORS {
        return Err(EINVAL);
    }
    let table = ctx.files();
    for fd in fds {
        control.files.push(table.get(fd)?);
    }
    Ok(())
}

/// `recvfrom(2)`.
pub fn sys_recvfrom(
    ctx: &Ctx,
    fd: Fd,
    addr: Vaddr,
    len: usize,
    flags: u32,
    from: Vaddr,
    from_len: Vaddr,
) -> Result<usize> {
    let file = find(ctx, fd)?;
    let mut dst = sink(ctx, addr, len)?;
    let flags = ReceiveFlags::from_bits_truncate(flags);
    let received = of(&file)?.receive(&mut dst, flags, file.blocking())?;
    if from != 0 {
        write_address(ctx, &sender(&received), from, from_len)?;
    }
    Ok(received.count)
}

/// The sender's address; nothing if it has none.
fn sender(received: &Received) -> Vec<u8> {
    received.from.as_deref().map_or(Vec::new(), |address| Address::encode(Some(address)))
}

/// `recvmsg(2)`.
pub fn sys_recvmsg(ctx: &Ctx, fd: Fd, message: Vaddr, flags: u32) -> Result<usize> {
    let file = find(ctx, fd)?;
    receive_one(ctx, &file, message, flags)
}

fn receive_one(ctx: &Ctx, file: &Arc<File>, message: Vaddr, flags: u32) -> Result<usize> {
    let mut header = MessageHeader::read(ctx, message)?;
    let mut dst = sinks(ctx, header.buffers, header.buffer_count)?;
    let known = ReceiveFlags::from_bits_truncate(flags);
    let mut received = of(file)?.receive(&mut dst, known, file.blocking())?;
    let mut told = flags & MSG_CMSG_CLOEXEC;
    if received.is_truncated {
        told |= MSG_TRUNC;
    }
    let address = sender(&received);
    if header.name != 0 {
        let part = &address[..address.len().min(header.name_len as usize)];
        ctx.vm.write_bytes(header.name, part)?;
        header.name_len = address.len() as u32;
    }
    let mut writer = ControlWriter { ctx, addr: header.control, room: header.control_len, used: 0 };
    if header.control == 0 {
        writer.room = 0;
    }
    let is_whole = writer.credentials(&received)? & writer.files(&mut received, known)?;
    if !is_whole {
        told |= MSG_CTRUNC;
    }
    header.control_len = writer.used;
    header.flags = told;
    let whole: MessageHeader = ctx.vm.read_val(message)?;
    let name_len = if header.name != 0 { header.name_len } else { whole.name_len };
    let (control_len, flags) = (header.control_len, header.flags);
    ctx.vm.write_val(message, &MessageHeader { name_len, control_len, flags, ..whole })?;
    Ok(received.count)
}

/// Where control data goes.
struct ControlWriter<'a, 'b> {
    ctx: &'a Ctx<'b>,
    addr: Vaddr,
    room: usize,
    used: usize,
}

impl ControlWriter<'_, '_> {
    /// Adds one piece, cut off where there is no room. Answers whether it is whole.
    fn add(&mut self, kind: u32, data: &[u8]) -> Result<bool> {
        let left = self.room - self.used;
        if left < CONTROL_HEADER {
            return Ok(false);
        }
        let len = (CONTROL_HEADER + data.len()).min(left);
        let header = ControlHeader { len, level: SOL_SOCKET, kind };
        let at = self.addr + self.used;
        self.ctx.vm.write_val(at, &header)?;
        self.ctx.vm.write_bytes(at + CONTROL_HEADER, &data[..len - CONTROL_HEADER])?;
        self.used += len.next_multiple_of(CONTROL_ALIGN).min(left);
        Ok(len == CONTROL_HEADER + data.len())
    }

    fn credentials(&mut self, received: &Received) -> Result<bool> {
        match received.credentials {
            Some(credentials) => self.add(SCM_CREDENTIALS, credentials.as_bytes()),
            None => Ok(true),
        }
    }

    /// Opens descriptors for the received files, as many as there is room for. Answers whether for all.
    fn files(&mut self, received: &mut Received, flags: ReceiveFlags) -> Result<bool> {
        let files = core::mem::take(&mut received.files);
        if files.is_empty() {
            return Ok(true);
        }
        let close_on_exec = CloseOnExec::from_flag(flags.contains(ReceiveFlags::CMSG_CLOEXEC));
        let left = self.room - self.used;
        let fitting = left.saturating_sub(CONTROL_HEADER) / size_of::<Fd>();
        let count = files.len();
        let table = self.ctx.files();
        let mut fds: Vec<Fd> = Vec::new();
        for file in files.into_iter().take(fitting) {
            match table.insert(file, close_on_exec, 0, fd_limit(self.ctx)) {
                Ok(fd) => fds.push(fd),
                Err(_) => break,
            }
        }
        if !fds.is_empty() {
            self.add(SCM_RIGHTS, fds.as_bytes())?;
        }
        Ok(fds.len() == count)
    }
}

/// `recvmmsg(2)`.
pub fn sys_recvmmsg(
    ctx: &Ctx,
    fd: Fd,
    messages: Vaddr,
    count: u32,
    flags: u32,
    timeout: Vaddr,
) -> Result<usize> {
    let file = find(ctx, fd)?;
    let deadline = match timeout {
        0 => None,
        addr => Some(monotonic().saturating_add(TimeSpec::read(ctx, addr)?.to_duration()?)),
    };
    let count = (count as usize).min(IOV_MAX);
    let mut flags = flags;
    let mut done = 0;
    while done < count {
        let addr = messages + done * size_of::<ManyHeader>();
        let received = receive_one(ctx, &file, addr, flags & !WAIT_FOR_ONE)
            .and_then(|len| ctx.vm.write_val(addr + size_of::<MessageHeader>(), &(len as u32)));
        match received {
            Ok(()) => done += 1,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
        if flags & WAIT_FOR_ONE != 0 {
            flags |= MSG_DONTWAIT;
        }
        // The time is looked at only between messages, as in Linux (recvmmsg(2), BUGS).
        if deadline.is_some_and(|deadline| monotonic() >= deadline) {
            break;
        }
    }
    if let Some(deadline) = deadline {
        let left = TimeSpec::from(deadline.saturating_sub(monotonic()));
        ctx.vm.write_val(timeout, &left)?;
    }
    Ok(done)
}
