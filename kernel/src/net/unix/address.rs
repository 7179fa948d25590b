// SPDX-License-Identifier: MPL-2.0

//! Addresses of Unix sockets: paths, and names in a space of their own (`unix(7)`, "Abstract").

use core::any::Any;

use linux_raw_sys::net::{AF_UNIX, UNIX_PATH_MAX};

use super::{Socket, SocketKind};
use crate::{
    fs::{
        inode::Inode,
        lookup::{LastLink, Lookup, Resolve},
        namei,
        permission::Access,
        types::{FileType, NewNode},
    },
    prelude::*,
};

/// The size of `sun_family`.
const FAMILY_SIZE: usize = size_of::<u16>();
/// The size of `struct sockaddr_un`.
pub const ADDRESS_SIZE: usize = FAMILY_SIZE + UNIX_PATH_MAX as usize;

/// The address of a socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// A file.
    Path(Box<[u8]>),
    /// A name that is no file's.
    Abstract(Box<[u8]>),
}

/// What a program hands in as an address.
#[derive(Debug, PartialEq, Eq)]
pub enum Given {
    /// An address.
    Address(Address),
    /// Only the family: any address will do.
    Any,
}

impl Given {
    /// Parses a `struct sockaddr_un`.
    ///
    /// # Errors
    ///
    /// EINVAL for another family, or a length that cannot be.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() < FAMILY_SIZE || bytes.len() > ADDRESS_SIZE {
            return Err(EINVAL);
        }
        let (family, name) = bytes.split_at(FAMILY_SIZE);
        if u32::from(u16::from_ne_bytes([family[0], family[1]])) != AF_UNIX {
            return Err(EINVAL);
        }
        Ok(match name {
            [] => Self::Any,
            [0, name @ ..] => Self::Address(Address::Abstract(name.into())),
            path => {
                let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
                Self::Address(Address::Path(path[..end].into()))
            }
        })
    }

    /// The address.
    ///
    /// # Errors
    ///
    /// EINVAL if there is none.
    pub fn required(self) -> Result<Address> {
        match self {
            Self::Address(address) => Ok(address),
            Self::Any => Err(EINVAL),
        }
    }
}

impl Address {
    /// The `struct sockaddr_un` of an address, or of no address.
    pub fn encode(address: Option<&Self>) -> Vec<u8> {
        let mut bytes = (AF_UNIX as u16).to_ne_bytes().to_vec();
        match address {
            None => {}
            Some(Self::Path(path)) => {
                bytes.extend_from_slice(path);
                bytes.push(0);
            }
            Some(Self::Abstract(name)) => {
                bytes.push(0);
                bytes.extend_from_slice(name);
            }
        }
        bytes
    }

    /// The socket of type `kind` that is bound here.
    ///
    /// # Errors
    ///
    /// ECONNREFUSED if there is none; EPROTOTYPE if it is of another kind; those of a lookup; EACCES without permission to write.
    pub fn find(&self, kind: SocketKind) -> Result<Arc<Socket>> {
        match self {
            Self::Abstract(name) => {
                let found = NAMES.lock().get(&(kind, name.clone())).and_then(Weak::upgrade);
                found.filter(|socket| !socket.is_closed()).ok_or(ECONNREFUSED)
            }
            Self::Path(path) => {
                let lookup = lookup()?;
                let place = lookup.find(path, LastLink::Follow)?;
                let meta = place.inode().metadata();
                lookup.cred.check_access(&meta, Access::WRITE)?;
                if meta.kind != FileType::Socket {
                    return Err(ECONNREFUSED);
                }
                let socket = socket_of(place.inode()).ok_or(ECONNREFUSED)?;
                if socket.kind == kind { Ok(socket) } else { Err(EPROTOTYPE) }
            }
        }
    }
}

/// The caller's lookup.
fn lookup() -> Result<Lookup> {
    let thread = Thread::current().ok_or(ECONNREFUSED)?;
    let fs = thread.fs();
    Ok(Lookup { base: fs.cwd(), root: fs.root(), cred: thread.credentials(), resolve: Resolve::empty() })
}

fn socket_of(inode: &Arc<dyn Inode>) -> Option<Arc<Socket>> {
    let bound = inode.ext()?.socket.lock().as_ref()?.upgrade()?;
    bound.downcast::<Socket>().ok().filter(|socket| !socket.is_closed())
}

type Names = BTreeMap<(SocketKind, Box<[u8]>), Weak<Socket>>;

/// Sockets bound to names that are no files'.
static NAMES: Mutex<Names> = Mutex::new(BTreeMap::new());

impl Socket {
    /// `bind(2)`.
    ///
    /// # Errors
    ///
    /// EADDRINUSE if the address is taken; EINVAL if the socket has one; those of `mknod(2)`.
    pub fn bind(&self, given: Given) -> Result<()> {
        let address = match given {
            Given::Address(address) => address,
            Given::Any => return self.bind_anywhere(),
        };
        let mut state = self.state.lock();
        if state.address.is_some() {
            return Err(EINVAL);
        }
        match &address {
            Address::Path(path) => self.bind_path(path)?,
            Address::Abstract(name) => {
                if !self.try_name(name) {
                    return Err(EADDRINUSE);
                }
            }
        }
        state.address = Some(Arc::new(address));
        Ok(())
    }

    fn bind_path(&self, path: &[u8]) -> Result<()> {
        let umask = Thread::current().map_or(0, |thread| thread.fs().umask());
        let place = match namei::create(&lookup()?, path, NewNode::Socket, 0o777 & !umask) {
            Err(EEXIST) => return Err(EADDRINUSE),
            made => made?,
        };
        let bound: Weak<dyn Any + Send + Sync> = self.this.clone();
        match place.inode().ext() {
            Some(ext) => *ext.socket.lock() = Some(bound),
            None => return Err(EPERM),
        }
        Ok(())
    }

    /// Takes a name; answers whether it was free.
    fn try_name(&self, name: &[u8]) -> bool {
        let mut names = NAMES.lock();
        let key = (self.kind, Box::from(name));
        let is_free = names.get(&key).is_none_or(|socket| socket.strong_count() == 0);
        if is_free {
            names.insert(key, self.this.clone());
        }
        is_free
    }

    /// Gives the socket an unused name of five hexadecimal digits, unless it has an address.
    ///
    /// # Errors
    ///
    /// ENOSPC if all are taken.
    pub(super) fn bind_anywhere(&self) -> Result<()> {
        const NAMES_IN_ALL: u32 = 1 << 20;
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mut state = self.state.lock();
        if state.address.is_some() {
            return Ok(());
        }
        for _ in 0..NAMES_IN_ALL {
            let number = NEXT.fetch_add(1, Ordering::Relaxed) % NAMES_IN_ALL;
            let name = format!("{number:05x}").into_bytes();
            if self.try_name(&name) {
                state.address = Some(Arc::new(Address::Abstract(name.into())));
                return Ok(());
            }
        }
        Err(ENOSPC)
    }

    /// Gives up the name. A file stays, and nobody can be reached by it.
    pub(super) fn unbind(&self) {
        let Some(address) = self.address() else { return };
        if let Address::Abstract(name) = &*address {
            let mut names = NAMES.lock();
            let key = (self.kind, name.clone());
            // An accepted socket has its listener's address, not its name.
            if names.get(&key).is_some_and(|bound| Weak::ptr_eq(bound, &self.this)) {
                names.remove(&key);
            }
        }
    }
}
