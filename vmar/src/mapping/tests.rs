// SPDX-License-Identifier: MPL-2.0

use super::*;
use crate::sim::Sim;

#[test]
fn a_mapping_is_small_enough_to_be_moved_by_words() {
    assert!(size_of::<VmMapping<Sim>>() <= 64, "it has {} bytes", size_of::<VmMapping<Sim>>());
}
