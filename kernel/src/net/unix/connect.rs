// SPDX-License-Identifier: MPL-2.0

//! Connections: listen, connect, accept.

use ostd::sync::MutexGuard;

use super::{Role, Socket, SocketKind, State, address::Given, message::UCred};
use crate::{fs::poll::Blocking, prelude::*};

/// The most connections that can wait to be accepted (`net.core.somaxconn`).
const MAX_BACKLOG: usize = 4096;

impl Socket {
    /// `listen(2)`.
    ///
    /// # Errors
    ///
    /// EOPNOTSUPP for datagrams; EINVAL if it has no address or is connected.
    pub fn listen(&self, backlog: i32) -> Result<()> {
        if !self.kind.is_connected() {
            return Err(EOPNOTSUPP);
        }
        let wanted = usize::try_from(backlog).unwrap_or(MAX_BACKLOG).min(MAX_BACKLOG);
        let mut state = self.state.lock();
        if state.address.is_none() {
            return Err(EINVAL);
        }
        match &mut state.role {
            Role::Connected { .. } => return Err(EINVAL),
            Role::Listening { backlog, .. } => *backlog = wanted,
            role @ Role::Idle => *role = Role::Listening { backlog: wanted, queue: VecDeque::new() },
        }
        // Whoever connects is told who listens.
        state.peer_credentials = UCred::effective();
        drop(state);
        self.drained.wake_all();
        Ok(())
    }

    /// `connect(2)`. `None` takes the peer of a datagram socket away.
    ///
    /// # Errors
    ///
    /// Those of the man page.
    pub fn connect(&self, given: Option<Given>, blocking: Blocking) -> Result<()> {
        if self.kind == SocketKind::Datagram {
            return self.connect_datagram(given);
        }
        let address = given.ok_or(EINVAL)?.required()?;
        if self.options.passes_credentials() {
            self.bind_anywhere()?;
        }
        // Looked at once more when it is done.
        self.check_idle(&self.state.lock())?;
        let deadline = self.options.send_deadline();
        loop {
            let listener = address.find(self.kind)?;
            let step =
                self.wait_on(&listener.drained.clone(), blocking, deadline, || self.try_connect(&listener));
            match step {
                // It went away while it was waited for; another may have taken its place.
                Err(ESTALE) => {}
                done => return done,
            }
        }
    }

    fn check_idle(&self, state: &State) -> Result<()> {
        match state.role {
            Role::Idle => Ok(()),
            Role::Listening { .. } => Err(EINVAL),
            Role::Connected { .. } => Err(EISCONN),
        }
    }

    fn try_connect(&self, listener: &Arc<Socket>) -> Result<()> {
        let (mut own, mut theirs) = lock_both(self, listener);
        if listener.is_closed() {
            return Err(ESTALE);
        }
        self.check_idle(&own)?;
        let (address, credentials) = (theirs.address.clone(), theirs.peer_credentials);
        let Role::Listening { backlog, queue } = &mut theirs.role else { return Err(ECONNREFUSED) };
        if listener.is_shut(super::SHUT_READ) {
            return Err(ECONNREFUSED);
        }
        if queue.len() > *backlog {
            return Err(EAGAIN);
        }
        try_reserve(queue, 1)?;
        let accepted = Self::build(self.kind, address.clone());
        accepted.options.inherit(&listener.options);
        {
            let mut state = accepted.state.lock();
            state.role = Role::Connected { peer: self.this.clone(), address: own.address.clone() };
            state.peer_credentials = UCred::effective();
        }
        own.role = Role::Connected { peer: Arc::downgrade(&accepted), address };
        own.peer_credentials = credentials;
        queue.push_back(accepted);
        drop((own, theirs));
        listener.tell_input();
        self.wake_all();
        Ok(())
    }

    fn connect_datagram(&self, given: Option<Given>) -> Result<()> {
        let role = match given {
            None => Role::Idle,
            Some(given) => {
                let address = given.required()?;
                if self.options.passes_credentials() {
                    self.bind_anywhere()?;
                }
                let peer = address.find(self.kind)?;
                self.check_may_send(&peer)?;
                Role::Connected { peer: Arc::downgrade(&peer), address: Some(Arc::new(address)) }
            }
        };
        let old = core::mem::replace(&mut self.state.lock().role, role);
        drop(old);
        self.wake_all();
        Ok(())
    }

    /// A datagram socket with a peer hears nobody else.
    ///
    /// # Errors
    ///
    /// EPERM.
    pub(super) fn check_may_send(&self, other: &Arc<Socket>) -> Result<()> {
        match &other.state.lock().role {
            Role::Connected { peer, .. } if !Weak::ptr_eq(peer, &self.this) => Err(EPERM),
            _ => Ok(()),
        }
    }

    /// `accept(2)`.
    ///
    /// # Errors
    ///
    /// EOPNOTSUPP for datagrams; EINVAL if it does not listen; EAGAIN, ERESTARTSYS.
    pub fn accept(&self, blocking: Blocking) -> Result<Arc<Socket>> {
        if !self.kind.is_connected() {
            return Err(EOPNOTSUPP);
        }
        let deadline = self.options.receive_deadline();
        let accepted = self.wait_on(&self.readable, blocking, deadline, || {
            let mut state = self.state.lock();
            let Role::Listening { queue, .. } = &mut state.role else { return Err(EINVAL) };
            match queue.pop_front() {
                Some(accepted) => Ok(accepted),
                None if self.is_shut(super::SHUT_READ) => Err(EINVAL),
                None => Err(EAGAIN),
            }
        })?;
        self.drained.wake_all();
        Ok(accepted)
    }

    /// Whether it listens; if so, whether somebody waits to be accepted.
    pub(super) fn has_connections(&self) -> Option<bool> {
        match &self.state.lock().role {
            Role::Listening { queue, .. } => Some(!queue.is_empty()),
            _ => None,
        }
    }
}

/// Locks the states of two sockets that differ.
fn lock_both<'a>(one: &'a Socket, other: &'a Socket) -> (MutexGuard<'a, State>, MutexGuard<'a, State>) {
    if core::ptr::from_ref(one) < core::ptr::from_ref(other) {
        let first = one.state.lock();
        (first, other.state.lock())
    } else {
        let second = other.state.lock();
        (one.state.lock(), second)
    }
}
