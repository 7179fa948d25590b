// SPDX-License-Identifier: MPL-2.0

//! Unix sockets: stream, datagram and sequenced-packet, as in `unix(7)`.
//!
//! ```text
//!   Socket ── peer (weak) ──► Socket          each has an inbox of what was sent to it, with descriptors and credentials
//!     │                         │
//!   state: idle, listening,   inbox ◄── send   receive ──► wakes the sender's `writable` and the own `drained`
//!          connected
//! ```
//!
//! - A socket lives as long as its open file, or as it waits in a listener's queue to be accepted. Peers know each other weakly.
//! - Nobody waits with a lock held. A change is made first and told second, to the queues of [`Socket`].
//! - Locks: `state` of two sockets lower address first, then `inbox`. User memory is read before a message is queued and
//!   written with the own `inbox` locked.
//! - What was sent with descriptors keeps files open, perhaps sockets; [`message`] closes them one after the other, and
//!   does not recurse. Sockets that only each other's messages hold are found by [`garbage`].

mod address;
mod connect;
mod file;
mod garbage;
mod message;
mod options;
mod receive;
mod send;

pub use self::{
    address::{Address, Given},
    message::{Control, UCred},
    receive::{ReceiveFlags, Received},
    send::SendFlags,
};
use self::{message::Inbox, options::Options};
use crate::{
    fs::{
        File, OpenFlags,
        anon::AnonInode,
        inode::Inode,
        sigio::{AsyncList, Readiness},
        types::FileType,
    },
    prelude::*,
    wait::WaitQueue,
};

/// The kind of a socket, `SOCK_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SocketKind {
    /// A stream of bytes.
    Stream,
    /// Single messages to anybody.
    Datagram,
    /// Messages over a connection.
    SeqPacket,
}

impl SocketKind {
    /// Whether it talks over connections.
    pub const fn is_connected(self) -> bool {
        !matches!(self, Self::Datagram)
    }
}

/// A Unix socket.
pub struct Socket {
    this: Weak<Socket>,
    kind: SocketKind,
    state: Mutex<State>,
    inbox: Mutex<Inbox>,
    options: Options,
    /// `SHUT_READ` and `SHUT_WRITE`.
    shut: AtomicU32,
    is_closed: AtomicBool,
    /// The error that the next call reports (`SO_ERROR`); 0 for none.
    error: AtomicI32,
    /// Woken when there is something to receive or accept, or never will be.
    readable: Arc<WaitQueue>,
    /// Woken when the peer has made room, or is gone.
    writable: Arc<WaitQueue>,
    /// Woken when this socket has made room, for whoever sends or connects to it.
    drained: Arc<WaitQueue>,
    /// Those who want signals.
    async_list: AsyncList,
    /// Whether something could not be sent for want of room, so that a signal says when there is some.
    lacks_room: AtomicBool,
}

/// Nothing more is received.
const SHUT_READ: u32 = 1;
/// Nothing more is sent.
const SHUT_WRITE: u32 = 2;
const SHUT_BOTH: u32 = 3;

struct State {
    address: Option<Arc<Address>>,
    role: Role,
    peer_credentials: UCred,
}

enum Role {
    Idle,
    Listening { backlog: usize, queue: VecDeque<Arc<Socket>> },
    Connected { peer: Weak<Socket>, address: Option<Arc<Address>> },
}

impl Socket {
    /// A socket that is bound and connected to nothing.
    pub fn new(kind: SocketKind) -> Arc<Self> {
        Self::build(kind, None)
    }

    fn build(kind: SocketKind, address: Option<Arc<Address>>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            kind,
            state: Mutex::new(State { address, role: Role::Idle, peer_credentials: UCred::NOBODY }),
            inbox: Mutex::new(Inbox::default()),
            options: Options::new(),
            shut: AtomicU32::new(0),
            is_closed: AtomicBool::new(false),
            error: AtomicI32::new(0),
            readable: Arc::new(WaitQueue::new()),
            writable: Arc::new(WaitQueue::new()),
            drained: Arc::new(WaitQueue::new()),
            async_list: AsyncList::default(),
            lacks_room: AtomicBool::new(false),
        })
    }

    /// Two sockets that are connected to each other.
    pub fn new_pair(kind: SocketKind) -> (Arc<Self>, Arc<Self>) {
        let (one, other) = (Self::new(kind), Self::new(kind));
        let credentials = UCred::effective();
        for (socket, peer) in [(&one, &other), (&other, &one)] {
            let mut state = socket.state.lock();
            state.role = Role::Connected { peer: Arc::downgrade(peer), address: None };
            state.peer_credentials = credentials;
        }
        (one, other)
    }

    /// Opens the socket. `flags` may have `NONBLOCK`.
    pub fn into_file(self: Arc<Self>, flags: OpenFlags) -> Arc<File> {
        let inode = AnonInode::new(FileType::Socket, 0o777);
        let label = format!("socket:[{}]", inode.metadata().ino);
        File::new_anonymous(inode, &label, self, OpenFlags::RDWR | flags)
    }

    /// Its kind.
    pub fn kind(&self) -> SocketKind {
        self.kind
    }

    /// The address it is bound to.
    pub fn address(&self) -> Option<Arc<Address>> {
        self.state.lock().address.clone()
    }

    /// The address of its peer; `None` if the peer has none.
    ///
    /// # Errors
    ///
    /// ENOTCONN.
    pub fn peer_address(&self) -> Result<Option<Arc<Address>>> {
        let (peer, address) = match &self.state.lock().role {
            Role::Connected { peer, address } => (peer.upgrade(), address.clone()),
            _ => return Err(ENOTCONN),
        };
        // The peer may have been bound after it was connected.
        Ok(peer.and_then(|peer| peer.address()).or(address))
    }

    /// The peer, if it is connected and the peer still lives.
    fn peer(&self) -> Option<Arc<Socket>> {
        match &self.state.lock().role {
            Role::Connected { peer, .. } => peer.upgrade().filter(|peer| !peer.is_closed()),
            _ => None,
        }
    }

    fn is_connected(&self) -> bool {
        matches!(self.state.lock().role, Role::Connected { .. })
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    fn is_shut(&self, direction: u32) -> bool {
        self.shut.load(Ordering::SeqCst) & direction != 0
    }

    /// Shuts directions down, and tells everybody.
    fn shut_down(&self, directions: u32) {
        self.shut.fetch_or(directions, Ordering::SeqCst);
        self.wake_all();
    }

    /// The same because the peer has done so or is gone.
    fn shut_down_by_peer(&self, directions: u32) {
        self.shut_down(directions);
        if directions == SHUT_BOTH {
            self.async_list.tell(Readiness::HangUp);
        } else if directions & SHUT_READ != 0 {
            self.async_list.tell(Readiness::In);
        }
    }

    /// Tells that there is something to receive or accept.
    fn tell_input(&self) {
        self.readable.wake_all();
        self.async_list.tell(Readiness::In);
    }

    fn wake_all(&self) {
        self.readable.wake_all();
        self.writable.wake_all();
        self.drained.wake_all();
    }

    /// Takes the error that a call is to report.
    fn take_error(&self) -> Option<Errno> {
        Errno::from_code(self.error.swap(0, Ordering::SeqCst))
    }

    fn set_error(&self, error: Errno) {
        self.error.store(error.code(), Ordering::SeqCst);
    }

    /// `shutdown(2)`.
    ///
    /// # Errors
    ///
    /// EINVAL unless `how` is one of `SHUT_*`.
    pub fn shutdown(&self, how: u32) -> Result<()> {
        let (own, theirs) = match how {
            linux_raw_sys::net::SHUT_RD => (SHUT_READ, SHUT_WRITE),
            linux_raw_sys::net::SHUT_WR => (SHUT_WRITE, SHUT_READ),
            linux_raw_sys::net::SHUT_RDWR => (SHUT_BOTH, SHUT_BOTH),
            _ => return Err(EINVAL),
        };
        let peer = if self.kind.is_connected() { self.peer() } else { None };
        self.shut_down(own);
        if let Some(peer) = peer {
            peer.shut_down_by_peer(theirs);
        }
        Ok(())
    }

    /// What closing its file does.
    fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        let role = core::mem::replace(&mut self.state.lock().role, Role::Idle);
        let unread = self.inbox.lock().take_all();
        match &role {
            Role::Idle => {}
            Role::Listening { queue, .. } => {
                for waiting in queue {
                    if let Some(client) = waiting.peer() {
                        client.set_error(ECONNRESET);
                        client.shut_down_by_peer(SHUT_BOTH);
                    }
                }
            }
            Role::Connected { peer, .. } => {
                if let Some(peer) = peer.upgrade().filter(|_| self.kind.is_connected()) {
                    if !unread.is_empty() {
                        peer.set_error(ECONNRESET);
                    }
                    peer.shut_down_by_peer(SHUT_BOTH);
                }
            }
        }
        self.shut_down(SHUT_BOTH);
        self.unbind();
        drop(unread);
        if let Role::Listening { queue, .. } = role {
            // Those that were never accepted have no file whose end would close them.
            queue.iter().for_each(|waiting| waiting.close());
        }
    }
}
