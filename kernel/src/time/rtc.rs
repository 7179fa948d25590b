// SPDX-License-Identifier: MPL-2.0

//! The real-time clock of a PC (MC146818), which keeps the time while the machine is off.
//!
//! It is read once, at boot. A read is good if no update went on meanwhile: so it is repeated until two agree.

use ostd::{
    arch::device::io_port::{ReadWriteAccess, WriteOnlyAccess},
    io::IoPort,
};

const SELECT_PORT: u16 = 0x70;
const DATA_PORT: u16 = 0x71;

const SECONDS: u8 = 0;
const MINUTES: u8 = 2;
const HOURS: u8 = 4;
const DAY: u8 = 7;
const MONTH: u8 = 8;
const YEAR: u8 = 9;
const STATUS_A: u8 = 10;
const STATUS_B: u8 = 11;

const UPDATE_IN_PROGRESS: u8 = 1 << 7;
const HOURS_24: u8 = 1 << 1;
const BINARY: u8 = 1 << 2;
const AFTERNOON: u8 = 1 << 7;

/// How often a read is tried.
const TRIES: usize = 10_000;

/// A time as the clock keeps it: year, month, day, hour, minute, second.
type Fields = [u8; 6];

/// The time in seconds since 1970, if there is a clock.
pub(super) fn read() -> Option<u64> {
    let select = IoPort::<u8, WriteOnlyAccess>::acquire(SELECT_PORT).ok()?;
    let data = IoPort::<u8, ReadWriteAccess>::acquire(DATA_PORT).ok()?;
    let register = |index: u8| {
        select.write(index);
        data.read()
    };
    let fields = || [YEAR, MONTH, DAY, HOURS, MINUTES, SECONDS].map(register);
    let mut last = fields();
    for _ in 0..TRIES {
        if register(STATUS_A) & UPDATE_IN_PROGRESS != 0 {
            continue;
        }
        let now = fields();
        if now == last {
            return seconds_since_1970(now, register(STATUS_B));
        }
        last = now;
    }
    None
}

fn seconds_since_1970(fields: Fields, status: u8) -> Option<u64> {
    let number =
        |field: u8| u64::from(if status & BINARY != 0 { field } else { (field >> 4) * 10 + (field & 0xf) });
    let [year, month, day, hours, minutes, seconds] = fields;
    let hour = match status & HOURS_24 {
        0 => number(hours & !AFTERNOON) % 12 + if hours & AFTERNOON != 0 { 12 } else { 0 },
        _ => number(hours),
    };
    let days = days_since_1970(2000 + number(year), number(month), number(day))?;
    Some(((days * 24 + hour) * 60 + number(minutes)) * 60 + number(seconds))
}

/// The days from 1970 to a date of the Gregorian calendar in this or a later century.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years that begin in March: the leap day is the last of the year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days_before_year = year * 365 + year / 4 - year / 100 + year / 400;
    let days_before_month = (month * 153 + 2) / 5;
    Some(days_before_year + days_before_month + day - 1 - DAYS_TO_1970)
}

/// The days from 1 March of the year 0 to 1 January 1970.
const DAYS_TO_1970: u64 = 719_468;

#[cfg(ktest)]
mod test {
    use ostd::prelude::ktest;

    use super::*;

    #[ktest]
    fn dates_are_counted_over_leap_days() {
        assert_eq!(days_since_1970(1970, 1, 1), Some(0));
        assert_eq!(days_since_1970(2000, 2, 29), Some(11_016));
        assert_eq!(days_since_1970(2000, 3, 1), Some(11_017));
        assert_eq!(days_since_1970(2026, 11, 20), Some(20_777));
        assert_eq!(days_since_1970(2026, 13, 1), None);
    }

    #[ktest]
    fn both_encodings_say_the_same() {
        let binary = seconds_since_1970([26, 11, 20, 15, 30, 45], BINARY | HOURS_24);
        let decimal = seconds_since_1970([0x26, 0x11, 0x20, 0x03 | AFTERNOON, 0x30, 0x45], 0);
        assert_eq!(binary, Some(20_777 * 86_400 + 15 * 3600 + 30 * 60 + 45));
        assert_eq!(decimal, binary);
    }
}
