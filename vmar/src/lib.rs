// SPDX-License-Identifier: MPL-2.0

#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;
#[cfg(any(test, feature = "sim"))]
extern crate std;

pub mod backing;
pub mod error;
pub mod fallible;
pub mod interval_map;
pub mod limits;
pub mod machine;
pub mod mapping;
pub mod object;
pub mod perms;
pub mod placement;
pub mod rss;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod vmar;
