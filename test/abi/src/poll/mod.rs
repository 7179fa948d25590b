// SPDX-License-Identifier: MPL-2.0

//! Waiting for files: poll, select, epoll and eventfds.

mod epoll;
mod eventfd;
mod select;

use crate::harness::Case;

pub const GROUPS: &[&[Case]] = &[select::CASES, epoll::CASES, eventfd::CASES];
