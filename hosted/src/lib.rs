// SPDX-License-Identifier: MPL-2.0

#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod abi;
mod access;
mod advise;
mod commit;
mod error;
mod fork;
mod heap;
pub mod host;
mod layout;
mod map;
mod mapping;
mod observer;
#[allow(unsafe_code)]
pub mod posix;
mod protect;
mod realize;
mod remap;
mod search;
mod segment;
mod space;
mod table;
mod unmap;

pub use access::MappingInfo;
pub use advise::Advice;
pub use error::Error;
pub use fork::Side;
pub use layout::PageSize;
pub use map::MapOptions;
pub use mapping::{ArchProt, OnFork, Prot, Source};
pub use observer::{Change, Observer};
pub use remap::{OldRange, RemapTarget};
pub use segment::{AttachAt, Rounding};
pub use space::{Builder, GuestSpace};
pub use vmar::{
    limits::{Limits, Usage},
    mapping::Sharing,
    perms::VmPerms,
    placement::{Placement, Window},
};
