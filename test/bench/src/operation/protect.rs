// SPDX-License-Identifier: MPL-2.0

//! Changing what may be done with resident pages, by whole mappings.
//!
//! To take is to go from reading and writing to reading alone, to give is the way back. A kernel may leave work for
//! the next touch: so each of them is measured without and with touching every page afterwards.

use super::{Operation, operations};
use crate::{
    arena::{Area, READ_WRITE, protect},
    clock::Samples,
    sys::{Result, check},
};

pub const OPERATIONS: &[Operation] = operations! {
    "protect_1_take", 0, 1, 200, protection::<1, TAKE, ALONE>, "`mprotect` that takes writing from one resident page, a mapping of its own";
    "protect_1_give", 0, 1, 200, protection::<1, GIVE, ALONE>, "`mprotect` that gives writing back to it";
    "protect_1_take_read", 0, 1, 200, protection::<1, TAKE, TOUCHED>, "taking it, and reading the page";
    "protect_1_give_write", 0, 1, 200, protection::<1, GIVE, TOUCHED>, "giving it back, and writing to the page";
    "protect_100_take", 0, 1, 100, protection::<100, TAKE, ALONE>, "`mprotect` that takes writing from 100 resident pages";
    "protect_100_give", 0, 1, 100, protection::<100, GIVE, ALONE>, "`mprotect` that gives writing back to them";
    "protect_100_take_read", 0, 1, 100, protection::<100, TAKE, TOUCHED>, "taking it, and reading each page";
    "protect_100_give_write", 0, 1, 100, protection::<100, GIVE, TOUCHED>, "giving it back, and writing to each page";
};

const TAKE: u8 = 0;
const GIVE: u8 = 1;
const ALONE: bool = false;
const TOUCHED: bool = true;

fn protection<const PAGES: usize, const DIRECTION: u8, const TOUCH: bool>(samples: &mut Samples) -> Result {
    let area = Area::resident(PAGES)?;
    let take = || {
        let answer = protect(area.base, PAGES, libc::PROT_READ);
        if TOUCH {
            area.read_all();
        }
        answer
    };
    let give = || {
        let answer = protect(area.base, PAGES, READ_WRITE);
        if TOUCH {
            area.write_all();
        }
        answer
    };
    while samples.wants_more() {
        let answers =
            if DIRECTION == TAKE { (samples.time(take), give()) } else { (take(), samples.time(give)) };
        check("mprotect", answers.0)?;
        check("mprotect", answers.1)?;
        // What was left for the next touch is not left for the next sample.
        area.write_all();
    }
    Ok(())
}
