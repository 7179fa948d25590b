// SPDX-License-Identifier: MPL-2.0

//! Only functions can require rights.

use aster_rights::{TRights, require};

struct Cap<R>(R);

#[require(R > Dup)]
impl<R: TRights> Cap<R> {
    fn method(&self) {}
}

#[require(R > Dup)]
struct Holder<R>(R);

fn main() {}
