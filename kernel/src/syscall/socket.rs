// SPDX-License-Identifier: MPL-2.0

//! Sockets: making, naming and connecting them, and their options.

use linux_raw_sys::{
    general::{O_CLOEXEC, O_NONBLOCK},
    net::{AF_UNIX, AF_UNSPEC, SOCK_DGRAM, SOCK_RAW, SOCK_RDM, SOCK_SEQPACKET, SOCK_STREAM, SOL_SOCKET},
};

use super::fs_util::{fd_limit, install};
use crate::{
    fs::{CloseOnExec, Fd, File, OpenFlags},
    net::unix::{Address, Given, Socket, SocketKind},
    prelude::*,
};

/// The size of `struct sockaddr_storage`.
const MAX_ADDRESS: usize = 128;
/// The bits of a type that name one.
const TYPE_MASK: u32 = 0xf;
/// Numbers from here on are no types.
const MAX_TYPE: u32 = 11;
/// The protocol of Unix sockets.
const PF_UNIX: i32 = AF_UNIX as i32;
/// The most bytes of an option's value.
const MAX_OPTION: usize = 256;

/// The socket that a descriptor refers to.
///
/// # Errors
///
/// EBADF; ENOTSOCK.
pub(super) fn find(ctx: &Ctx, fd: Fd) -> Result<Arc<File>> {
    let file = ctx.files().get(fd)?;
    if file.flags().contains(OpenFlags::PATH) {
        return Err(EBADF);
    }
    of(&file)?;
    Ok(file)
}

/// The socket behind a file.
///
/// # Errors
///
/// ENOTSOCK.
pub(super) fn of(file: &Arc<File>) -> Result<&Socket> {
    file.downcast_ops::<Socket>().ok_or(ENOTSOCK)
}

/// A type as `socket(2)` takes it: the kind of socket, and flags for opening it.
fn parse_type(domain: i32, kind: u32, protocol: i32) -> Result<(SocketKind, OpenFlags)> {
    let flags = kind & !TYPE_MASK;
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 || kind & TYPE_MASK >= MAX_TYPE {
        return Err(EINVAL);
    }
    if domain != AF_UNIX as i32 {
        return Err(EAFNOSUPPORT);
    }
    if protocol != 0 && protocol != PF_UNIX {
        return Err(EPROTONOSUPPORT);
    }
    let kind = match kind & TYPE_MASK {
        SOCK_STREAM => SocketKind::Stream,
        // As in Linux and BSD.
        SOCK_DGRAM | SOCK_RAW => SocketKind::Datagram,
        SOCK_SEQPACKET => SocketKind::SeqPacket,
        0 | SOCK_RDM.. => return Err(ESOCKTNOSUPPORT),
    };
    Ok((kind, OpenFlags::from_bits_truncate(flags)))
}

fn close_on_exec(flags: OpenFlags) -> CloseOnExec {
    CloseOnExec::from_flag(flags.contains(OpenFlags::CLOEXEC))
}

/// `socket(2)`.
pub fn sys_socket(ctx: &Ctx, domain: i32, kind: u32, protocol: i32) -> Result<usize> {
    let (kind, flags) = parse_type(domain, kind, protocol)?;
    install(ctx, Socket::new(kind).into_file(flags), close_on_exec(flags))
}

/// `socketpair(2)`.
pub fn sys_socketpair(ctx: &Ctx, domain: i32, kind: u32, protocol: i32, fds: Vaddr) -> Result<usize> {
    let (kind, flags) = parse_type(domain, kind, protocol)?;
    let (one, other) = Socket::new_pair(kind);
    let files = (one.into_file(flags), other.into_file(flags));
    let (first, second) = ctx.files().insert_pair(files, close_on_exec(flags), fd_limit(ctx))?;
    if let Err(error) = ctx.vm.write_val(fds, &[first, second]) {
        for fd in [first, second] {
            // Another thread may have closed it meanwhile, which is just as well.
            let _ = ctx.files().close(fd);
        }
        return Err(error);
    }
    Ok(0)
}

/// Reads an address of a program.
///
/// # Errors
///
/// EINVAL for a length that cannot be; EFAULT.
pub(super) fn read_address(ctx: &Ctx, addr: Vaddr, len: i32) -> Result<Vec<u8>> {
    let len = usize::try_from(len).ok().filter(|len| *len <= MAX_ADDRESS).ok_or(EINVAL)?;
    let mut bytes = vec![0; len];
    ctx.vm.read_bytes(addr, &mut bytes)?;
    Ok(bytes)
}

/// Writes as much of an address as the program has room for, and tells its whole length.
///
/// # Errors
///
/// EINVAL for negative room; EFAULT.
pub(super) fn write_address(ctx: &Ctx, address: &[u8], addr: Vaddr, len: Vaddr) -> Result<()> {
    let room: i32 = ctx.vm.read_val(len)?;
    let room = usize::try_from(room).map_err(|_| EINVAL)?;
    ctx.vm.write_bytes(addr, &address[..address.len().min(room)])?;
    ctx.vm.write_val(len, &(address.len() as i32))
}

/// `bind(2)`.
pub fn sys_bind(ctx: &Ctx, fd: Fd, addr: Vaddr, len: i32) -> Result<usize> {
    let file = find(ctx, fd)?;
    let address = Given::parse(&read_address(ctx, addr, len)?)?;
    of(&file)?.bind(address)?;
    Ok(0)
}

/// `listen(2)`.
pub fn sys_listen(ctx: &Ctx, fd: Fd, backlog: i32) -> Result<usize> {
    of(&find(ctx, fd)?)?.listen(backlog)?;
    Ok(0)
}

/// `accept(2)`.
pub fn sys_accept(ctx: &Ctx, fd: Fd, addr: Vaddr, len: Vaddr) -> Result<usize> {
    sys_accept4(ctx, fd, addr, len, 0)
}

/// `accept4(2)`.
pub fn sys_accept4(ctx: &Ctx, fd: Fd, addr: Vaddr, len: Vaddr, flags: u32) -> Result<usize> {
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(EINVAL);
    }
    let flags = OpenFlags::from_bits_truncate(flags);
    let listener = find(ctx, fd)?;
    let accepted = of(&listener)?.accept(listener.blocking())?;
    let peer = accepted.peer_address();
    let file = accepted.into_file(flags);
    if addr != 0 {
        let peer = peer.map_err(|_| ECONNABORTED)?;
        write_address(ctx, &Address::encode(peer.as_deref()), addr, len)?;
    }
    install(ctx, file, close_on_exec(flags))
}

/// `connect(2)`.
pub fn sys_connect(ctx: &Ctx, fd: Fd, addr: Vaddr, len: i32) -> Result<usize> {
    let file = find(ctx, fd)?;
    let bytes = read_address(ctx, addr, len)?;
    let socket = of(&file)?;
    let family = bytes.get(..2).ok_or(EINVAL)?;
    let is_unspecified = u32::from(u16::from_ne_bytes([family[0], family[1]])) == AF_UNSPEC;
    let given = match is_unspecified && socket.kind() == SocketKind::Datagram {
        true => None,
        false => Some(Given::parse(&bytes)?),
    };
    socket.connect(given, file.blocking())?;
    Ok(0)
}

/// `shutdown(2)`.
pub fn sys_shutdown(ctx: &Ctx, fd: Fd, how: u32) -> Result<usize> {
    of(&find(ctx, fd)?)?.shutdown(how)?;
    Ok(0)
}

/// `getsockname(2)`.
pub fn sys_getsockname(ctx: &Ctx, fd: Fd, addr: Vaddr, len: Vaddr) -> Result<usize> {
    let address = of(&find(ctx, fd)?)?.address();
    write_address(ctx, &Address::encode(address.as_deref()), addr, len)?;
    Ok(0)
}

/// `getpeername(2)`.
pub fn sys_getpeername(ctx: &Ctx, fd: Fd, addr: Vaddr, len: Vaddr) -> Result<usize> {
    let address = of(&find(ctx, fd)?)?.peer_address()?;
    write_address(ctx, &Address::encode(address.as_deref()), addr, len)?;
    Ok(0)
}

/// `setsockopt(2)`.
pub fn sys_setsockopt(ctx: &Ctx, fd: Fd, level: u32, option: u32, value: Vaddr, len: i32) -> Result<usize> {
    let len = usize::try_from(len).map_err(|_| EINVAL)?;
    let file = find(ctx, fd)?;
    if level != SOL_SOCKET {
        return Err(EOPNOTSUPP);
    }
    let mut bytes = vec![0; len.min(MAX_OPTION)];
    ctx.vm.read_bytes(value, &mut bytes)?;
    of(&file)?.set_option(option, &bytes)?;
    Ok(0)
}

/// `getsockopt(2)`.
pub fn sys_getsockopt(ctx: &Ctx, fd: Fd, level: u32, option: u32, value: Vaddr, len: Vaddr) -> Result<usize> {
    let file = find(ctx, fd)?;
    if level != SOL_SOCKET {
        return Err(EOPNOTSUPP);
    }
    let room: i32 = ctx.vm.read_val(len)?;
    let room = usize::try_from(room).map_err(|_| EINVAL)?;
    let bytes = of(&file)?.option(option)?;
    let part = &bytes[..bytes.len().min(room)];
    ctx.vm.write_bytes(value, part)?;
    ctx.vm.write_val(len, &(part.len() as i32))?;
    Ok(0)
}
