// SPDX-License-Identifier: MPL-2.0

//! The example that the book shows is run.

#[path = "../../examples/small_guest.rs"]
mod small_guest;

#[test]
fn the_example_of_the_book_runs() {
    small_guest::main().unwrap();
}
