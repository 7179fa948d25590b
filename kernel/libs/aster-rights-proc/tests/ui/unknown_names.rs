// SPDX-License-Identifier: MPL-2.0

//! Rights and type parameters that do not exist, and a right where a set is due.

use aster_rights::{Dup, TRights, require};

#[require(R > Fly)]
fn unknown_right<R: TRights>() {}

#[require(Q > Dup)]
fn unknown_parameter<R: TRights>() {}

#[require(R >= Dup)]
fn right_for_set<R: TRights>() {}

fn main() {}
