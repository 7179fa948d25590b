// SPDX-License-Identifier: MPL-2.0

//! System V inter-process communication: shared memory (`sysvipc(7)`).
//!
//! Its objects have no names in a file system. A program finds one by a *key* that both sides know, and from then on by its
//! *identifier*, which is made of the object's place in the table and of a number that grows, so that an old identifier does not
//! find a new object.

pub mod perm;
pub mod shm;
