// SPDX-License-Identifier: MPL-2.0

//! What rights in the type keep from compiling.
//!
//! What the compiler says is compared with the files beside the cases, so that a case fails for its own reason. After a
//! change of toolchain, `TRYBUILD=overwrite` writes them anew.

#[test]
fn v1_operations_without_their_right_do_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/ui/v1_*.rs");
}

#[test]
fn v2_growing_rights_do_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/ui/v2_*.rs");
}

#[test]
fn v6_raw_page_table_without_rights_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/ui/v6_*.rs");
}
