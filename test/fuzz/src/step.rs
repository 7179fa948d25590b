// SPDX-License-Identifier: MPL-2.0

//! A step of a sequence, and its one form as text: `1 mprotect(A+0x3000, 0x2000, R|W)`.

use crate::verb::{self, Verb};

/// The arguments of a step; those that its verb does not have are 0.
pub type Args = [u64; 6];

/// What one of the two processes does.
#[derive(Clone, Copy)]
pub struct Step {
    /// Which process; process 0 does it if there is no process 1.
    pub who: usize,
    pub verb: &'static Verb,
    pub args: Args,
}

impl Step {
    /// Prints it, without an end of line.
    pub fn print(&self, out: &mut String) {
        out.push(if self.who == 0 { '0' } else { '1' });
        out.push(' ');
        out.push_str(self.verb.name);
        out.push('(');
        for (index, (kind, arg)) in self.verb.kinds.iter().zip(self.args).enumerate() {
            out.push_str(if index == 0 { "" } else { ", " });
            kind.print(arg, out);
        }
        out.push(')');
    }

    /// Reads what [`Step::print`] has printed.
    pub fn parse(line: &str) -> Option<Self> {
        let (who, rest) = line.trim().split_once(' ')?;
        let (name, rest) = rest.split_once('(')?;
        let verb = verb::find(name)?;
        let mut words = rest.strip_suffix(')')?.split(',').map(str::trim).filter(|word| !word.is_empty());
        let mut args = [0; 6];
        for (kind, arg) in verb.kinds.iter().zip(&mut args) {
            *arg = kind.parse(words.next()?)?;
        }
        words.next().is_none().then_some(Self { who: usize::from(who != "0"), verb, args })
    }
}
