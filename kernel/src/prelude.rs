// SPDX-License-Identifier: MPL-2.0

//! What nearly every file of the kernel uses.

pub use alloc::{
    borrow::ToOwned,
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    format,
    string::{String, ToString},
    sync::{Arc, Weak},
    vec,
    vec::Vec,
};
pub use core::{
    fmt,
    sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

pub use ostd::{
    debug, error, info,
    mm::{PAGE_SIZE, Vaddr},
    sync::{LocalIrqDisabled, Mutex, RwLock, RwMutex, SpinLock},
    warn,
};
pub use ostd_pod::Pod;

pub use crate::{
    error::{Errno, Result, errno::*},
    fallible::{try_collect, try_filled, try_push, try_reserve, try_to_vec, try_with_capacity},
    process::{Ctx, Pid, Process, Thread, Tid},
};
