// SPDX-License-Identifier: MPL-2.0

//! What a case says: macros that panic with a reason, and the hook that brings the reason to the harness.
//!
//! A panic anywhere in a case, on any of its threads and in any of its children, writes its message to the harness's
//! pipe and ends that process. The first message counts.

use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

use crate::sys;

/// The pipe to the harness; a standard stream in the roles of `--helper`.
static REPORT: AtomicI32 = AtomicI32::new(2);

/// The longest reason: one write of it into a pipe is atomic.
const LONGEST: usize = 1500;

/// Sends reports to `writer`, and every panic there.
pub fn report_to(writer: i32) {
    REPORT.store(writer, Relaxed);
    std::panic::set_hook(Box::new(|info| {
        let message = info
            .payload()
            .downcast_ref::<&str>()
            .map(|text| text.to_string())
            .or_else(|| info.payload().downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "panicked".into());
        let place = info.location().map_or(String::new(), |place| {
            format!("{}:{}: ", place.file().trim_start_matches("abi/src/"), place.line())
        });
        report(b'F', &format!("{place}{message}"));
        sys::exit_group(1)
    }));
}

/// Says that the case passed, and ends it.
pub fn pass() -> ! {
    let _ = sys::write(REPORT.load(Relaxed), b"P");
    sys::exit_group(0)
}

/// Says that the case cannot tell anything here, and why, and ends it.
pub fn skip(reason: &str) -> ! {
    report(b'S', reason);
    sys::exit_group(0)
}

/// One record: its kind, the reason, a NUL.
fn report(kind: u8, reason: &str) {
    let mut end = reason.len().min(LONGEST);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut record = vec![kind];
    record.extend(reason.as_bytes()[..end].iter().filter(|&&byte| byte != 0));
    record.push(0);
    let _ = sys::write(REPORT.load(Relaxed), &record);
}

/// `cases!["mem/mmap": first, second]`: a slice of cases named `mem/mmap/first`, `mem/mmap/second`.
/// `cases!["mem/mmap", slow: third]`: cases that may take five times as long as others.
#[macro_export]
macro_rules! cases {
    ($prefix:literal: $($function:ident),+ $(,)?) => { $crate::cases!(@ $prefix, 1, $($function)+) };
    ($prefix:literal, slow: $($function:ident),+ $(,)?) => { $crate::cases!(@ $prefix, 5, $($function)+) };
    (@ $prefix:literal, $patience:literal, $($function:ident)+) => {
        &[$($crate::harness::Case {
            name: concat!($prefix, "/", stringify!($function)),
            run: $function,
            patience: $patience,
        }),+]
    };
}

/// Ends the case as one that cannot tell anything here.
#[macro_export]
macro_rules! skip {
    ($($arg:tt)+) => { $crate::check::skip(&format!($($arg)+)) };
}

/// Fails the case unless the condition holds. More arguments are a message with its values.
#[macro_export]
macro_rules! check {
    ($condition:expr $(,)?) => {
        if !$condition {
            panic!("{} does not hold", stringify!($condition));
        }
    };
    ($condition:expr, $($arg:tt)+) => {
        if !$condition {
            panic!("{} does not hold: {}", stringify!($condition), format_args!($($arg)+));
        }
    };
}

/// Fails the case unless both values are equal. More arguments are a message with its values.
#[macro_export]
macro_rules! check_eq {
    ($left:expr, $right:expr $(,)?) => {
        match (&$left, &$right) {
            (left, right) => if *left != *right {
                panic!("{} is {:?}, expected {:?}", stringify!($left), left, right);
            }
        }
    };
    ($left:expr, $right:expr, $($arg:tt)+) => {
        match (&$left, &$right) {
            (left, right) => if *left != *right {
                panic!("{} is {:?}, expected {:?}: {}", stringify!($left), left, right, format_args!($($arg)+));
            }
        }
    };
}

/// The value of a call that must succeed.
#[macro_export]
macro_rules! ok {
    ($call:expr $(,)?) => {
        match $call {
            Ok(value) => value,
            Err(error) => panic!("{} gives {}", stringify!($call), error),
        }
    };
}

/// Fails the case unless the call fails with this errno.
#[macro_export]
macro_rules! errno_is {
    ($call:expr, $errno:ident $(,)?) => {
        match $call {
            Err(error) if error == $crate::sys::Errno(libc::$errno) => {}
            Err(error) => panic!("{} gives {}, expected {}", stringify!($call), error, stringify!($errno)),
            Ok(value) => {
                panic!("{} gives {:?}, expected {}", stringify!($call), value, stringify!($errno))
            }
        }
    };
}
