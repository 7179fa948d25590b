// SPDX-License-Identifier: MPL-2.0

//! What must not compile, and what the compiler says of it.

#[test]
fn compile_fail() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
