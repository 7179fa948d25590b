// SPDX-License-Identifier: MPL-2.0

//! Sockets. The one family is `AF_UNIX`: there is no network.

pub mod unix;
