// SPDX-License-Identifier: MPL-2.0

//! Mount options of `tmpfs(5)`.

use crate::prelude::*;

/// The options of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// The most pages of contents; `None` for no limit.
    pub pages: Option<usize>,
    /// The most inodes; `None` for no limit.
    pub inodes: Option<usize>,
    /// Permission bits of the root directory.
    pub mode: u16,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl Options {
    /// No limits, and a root directory that anybody may use.
    pub(super) const fn unlimited() -> Self {
        Self { pages: None, inodes: None, mode: 0o1777, uid: 0, gid: 0 }
    }

    /// These options changed by the comma-separated list `text`.
    ///
    /// # Errors
    ///
    /// EINVAL for an option or a value that is not understood.
    pub(super) fn parse(mut self, text: &[u8]) -> Result<Self> {
        let text = core::str::from_utf8(text).map_err(|_| EINVAL)?;
        for option in text.split(',').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            match key {
                "size" => self.pages = limit(parse_size(value)?.div_ceil(PAGE_SIZE)),
                "nr_blocks" => self.pages = limit(parse_scaled(value)?),
                "nr_inodes" => self.inodes = limit(parse_scaled(value)?),
                "mode" => self.mode = u16::from_str_radix(value, 8).map_err(|_| EINVAL)? & 0o7777,
                "uid" => self.uid = value.parse().map_err(|_| EINVAL)?,
                "gid" => self.gid = value.parse().map_err(|_| EINVAL)?,
                "huge" | "mpol" | "inode32" | "inode64" => {}
                _ => return Err(EINVAL),
            }
        }
        Ok(self)
    }

    /// The options as `/proc/mounts` shows them, each after a comma.
    pub(super) fn show(&self) -> String {
        let mut text = String::new();
        if let Some(pages) = self.pages {
            text += &format!(",size={}k", pages * (PAGE_SIZE / 1024));
        }
        if let Some(inodes) = self.inodes {
            text += &format!(",nr_inodes={inodes}");
        }
        if self.mode != 0o1777 {
            text += &format!(",mode={:o}", self.mode);
        }
        if self.uid != 0 {
            text += &format!(",uid={}", self.uid);
        }
        if self.gid != 0 {
            text += &format!(",gid={}", self.gid);
        }
        text
    }
}

/// Zero stands for no limit.
fn limit(value: usize) -> Option<usize> {
    (value > 0).then_some(value)
}

fn parse_size(text: &str) -> Result<usize> {
    if let Some(percent) = text.strip_suffix('%') {
        let percent: usize = percent.parse().map_err(|_| EINVAL)?;
        let all = vmar_ostd::reserve::available_frames() * PAGE_SIZE;
        return (all / 100).checked_mul(percent).ok_or(EINVAL);
    }
    parse_scaled(text)
}

fn parse_scaled(text: &str) -> Result<usize> {
    let (digits, scale) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 1 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        Some((at, 'g' | 'G')) => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    let value: usize = digits.parse().map_err(|_| EINVAL)?;
    value.checked_mul(scale).ok_or(EINVAL)
}

#[cfg(ktest)]
mod tests {
    use ostd::prelude::ktest;

    use super::*;

    #[ktest]
    fn options_are_parsed_and_shown() {
        let options = Options::unlimited().parse(b"size=1m,mode=0700,uid=5").unwrap();
        assert_eq!(options.pages, Some(256));
        assert_eq!((options.mode, options.uid), (0o700, 5));
        assert_eq!(options.show(), ",size=1024k,mode=700,uid=5");
        assert_eq!(Options::unlimited().parse(b"size=0").unwrap().pages, None);
        assert_eq!(Options::unlimited().parse(b"size=banana"), Err(EINVAL));
        assert_eq!(Options::unlimited().parse(b"colour=red"), Err(EINVAL));
    }
}
