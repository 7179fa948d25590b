// SPDX-License-Identifier: MPL-2.0

#![forbid(unsafe_code)]

fn main() {}
