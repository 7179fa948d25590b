// SPDX-License-Identifier: MPL-2.0

//! Errors: Linux's errno, and the few codes that never reach a program.
//!
//! Every fallible function of the kernel answers with [`Result`]. An [`Errno`] is a value to match on:
//!
//! ```ignore
//! fn open(..) -> Result<usize> {
//!     if bad { return Err(EINVAL); }
//!     ..
//! }
//! ```
//!
//! A call that a signal interrupts answers one of the `ERESTART*` codes below. They stay inside the kernel: signal
//! delivery turns each into a restart of the call or into `EINTR` (see [`Errno::restart`]).

use core::fmt;

/// The result of everything in the kernel that can fail.
pub type Result<T, E = Errno> = core::result::Result<T, E>;

/// An error number, as in `errno(3)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(u16);

/// What becomes of a call that a signal interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Restart, unless a handler runs that was installed without `SA_RESTART`.
    IfSaRestart,
    /// Restart only when no handler runs; `SA_RESTART` does not matter (`poll`, `pause`, `sigsuspend`).
    IfNoHandler,
    /// As [`Restart::IfNoHandler`], but through `restart_syscall(2)`, which waits only for the time that is left.
    Block,
    /// Always restart.
    Always,
}

impl Errno {
    /// The number a program sees.
    pub const fn code(self) -> i32 {
        self.0 as i32
    }

    /// How to go on after a signal, when this is one of the kernel's own codes.
    pub const fn restart(self) -> Option<Restart> {
        match self {
            errno::ERESTARTSYS => Some(Restart::IfSaRestart),
            errno::ERESTARTNOHAND => Some(Restart::IfNoHandler),
            errno::ERESTART_RESTARTBLOCK => Some(Restart::Block),
            errno::ERESTARTNOINTR => Some(Restart::Always),
            _ => None,
        }
    }

    /// The value of `rax` that tells a program of this error.
    pub const fn to_return_value(self) -> usize {
        (-(self.0 as isize)) as usize
    }

    /// The errno whose number is `code`, if `code` can be one.
    pub const fn from_code(code: i32) -> Option<Self> {
        if code > 0 && code < 4096 { Some(Self(code as u16)) } else { None }
    }
}

impl Restart {
    /// The code that stands for it.
    pub const fn errno(self) -> Errno {
        match self {
            Self::IfSaRestart => errno::ERESTARTSYS,
            Self::IfNoHandler => errno::ERESTARTNOHAND,
            Self::Block => errno::ERESTART_RESTARTBLOCK,
            Self::Always => errno::ERESTARTNOINTR,
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "errno {}", self.0)
    }
}

impl From<ostd::Error> for Errno {
    fn from(error: ostd::Error) -> Self {
        match error {
            ostd::Error::NoMemory | ostd::Error::NotEnoughResources => errno::ENOMEM,
            ostd::Error::PageFault | ostd::Error::AccessDenied => errno::EFAULT,
            ostd::Error::IoError => errno::EIO,
            _ => errno::EINVAL,
        }
    }
}

/// The error numbers by name.
pub mod errno {
    use super::Errno;

    /// The call was interrupted; see [`super::Restart::IfSaRestart`]. Never seen by a program.
    pub const ERESTARTSYS: Errno = Errno(512);
    /// The call was interrupted; see [`super::Restart::Always`]. Never seen by a program.
    pub const ERESTARTNOINTR: Errno = Errno(513);
    /// The call was interrupted; see [`super::Restart::IfNoHandler`]. Never seen by a program.
    pub const ERESTARTNOHAND: Errno = Errno(514);
    /// The call was interrupted; see [`super::Restart::Block`]. Never seen by a program.
    pub const ERESTART_RESTARTBLOCK: Errno = Errno(516);

    macro_rules! errnos {
        ($($name:ident)*) => {
            $(
                #[doc = concat!("`", stringify!($name), "`, as in `errno(3)`.")]
                pub const $name: Errno = Errno(linux_raw_sys::errno::$name as u16);
            )*
        };
    }

    errnos! {
        EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK
        EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE
        EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP EWOULDBLOCK ENOMSG
        EIDRM ECHRNG EL2NSYNC EL3HLT EL3RST ELNRNG EUNATCH ENOCSI EL2HLT EBADE EBADR EXFULL ENOANO EBADRQC
        EBADSLT EDEADLOCK EBFONT ENOSTR ENODATA ETIME ENOSR ENONET ENOPKG EREMOTE ENOLINK EADV ESRMNT ECOMM
        EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG ELIBACC ELIBBAD ELIBSCN ELIBMAX
        ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT
        EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL
        ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN
        ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EUCLEAN
        ENOTNAM ENAVAIL EISNAM EREMOTEIO EDQUOT ENOMEDIUM EMEDIUMTYPE ECANCELED ENOKEY EKEYEXPIRED
        EKEYREVOKED EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ERFKILL EHWPOISON
    }
}
