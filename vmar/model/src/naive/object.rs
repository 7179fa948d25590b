// SPDX-License-Identifier: MPL-2.0

//! Objects: a size, and what is in their pages.

use std::{collections::BTreeMap, ops::Range};

use vmar::sim::PAGE_SIZE;

use super::{Content, WORDS};

#[derive(Clone, Debug, Default)]
pub struct Object {
    pub size: usize,
    pub pages: BTreeMap<usize, Content>,
}

impl Object {
    pub fn count(&self) -> usize {
        self.size.div_ceil(PAGE_SIZE)
    }

    pub fn content(&self, index: usize) -> Option<Content> {
        (index < self.count()).then(|| self.pages.get(&index).copied().unwrap_or_default())
    }

    fn zero(&mut self, range: Range<usize>) {
        for (index, content) in &mut self.pages {
            for (word, offset) in content.iter_mut().zip(WORDS) {
                if range.contains(&(index * PAGE_SIZE + offset)) {
                    *word = 0;
                }
            }
        }
    }

    /// Resizes, and returns the indices that are gone.
    pub fn resize(&mut self, size: usize) -> Range<usize> {
        let old_count = self.count();
        self.zero(self.size..old_count * PAGE_SIZE);
        self.size = size;
        let count = self.count();
        self.pages.retain(|index, _| *index < count);
        self.zero(size..count * PAGE_SIZE);
        count..old_count.max(count)
    }

    /// Gives it a page that it has not; what is past the end does not come with it.
    pub fn give(&mut self, index: usize, content: Content) {
        self.pages.insert(index, content);
        self.zero(self.size.max(index * PAGE_SIZE)..(index + 1) * PAGE_SIZE);
    }

    pub fn decommit(&mut self, range: Range<usize>) {
        self.zero(range);
    }
}
