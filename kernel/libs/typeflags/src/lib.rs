// SPDX-License-Identifier: MPL-2.0

#![no_std]
#![forbid(unsafe_code)]
