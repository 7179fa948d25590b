// SPDX-License-Identifier: MPL-2.0

//! Arguments that make no sense are refused where they stop to.

use aster_rights::{TRights, require};

#[require]
fn no_list<R: TRights>() {}

#[require()]
fn empty_list<R: TRights>() {}

#[require(R)]
fn no_demand<R: TRights>() {}

#[require(R >)]
fn no_right<R: TRights>() {}

#[require(R > Read |)]
fn no_second_right<R: TRights>() {}

#[require(R >=)]
fn no_set<R: TRights>() {}

#[require(R, R > Read)]
fn no_first_demand<R: TRights>() {}

#[require(R > 3)]
fn number<R: TRights>() {}

#[require(R > Read | Write | Read)]
fn twice<R: TRights>() {}

#[require(R < Read)]
fn wrong_way<R: TRights>() {}

#[require(R >> Read)]
fn shift<R: TRights>() {}

#[require(R > Read + Write)]
fn plus<R: TRights>() {}

#[require(R > Read R > Write)]
fn no_comma<R: TRights>() {}

#[require("R > Read")]
fn text<R: TRights>() {}

#[require(R > S)]
fn set_for_right<R: TRights, S: TRights>() {}

// What is refused is still there: no further errors where it is called.
fn main() {
    twice::<TRights![]>();
}
