// SPDX-License-Identifier: MPL-2.0

//! What is done to objects themselves.

use std::ops::Range;

use vmar::sim::PAGE_SIZE;

use super::{Running, World};
use crate::naive::{Source, WORDS};

impl World {
    pub(super) fn resize(&mut self, id: usize, size: usize) {
        assert_eq!(self.vmos[id].resize(size), Ok(()));
        let gone = self.objects[id].resize(size);
        for Running { space, .. } in &mut self.running {
            for page in space.pages.values_mut() {
                if let Source::Object { id: mapped, index } = page.source
                    && mapped == id
                    && gone.contains(&index)
                {
                    page.private = None;
                }
            }
        }
    }

    pub(super) fn decommit(&mut self, id: usize, range: Range<usize>) {
        assert_eq!(self.vmos[id].decommit(range.clone()), Ok(()));
        self.objects[id].decommit(range);
    }

    pub(super) fn write_object(&mut self, id: usize, index: usize, which: usize) {
        let value = self.word();
        let offset = index * PAGE_SIZE + WORDS[which];
        let fits = offset + 8 <= self.objects[id].size;
        if fits {
            assert_eq!(self.vmos[id].write_bytes(offset, &value.to_le_bytes()), Ok(8));
            self.objects[id].pages.entry(index).or_default()[which] = value;
        } else {
            assert_eq!(self.vmos[id].write_bytes(offset.max(self.objects[id].size), &[1]), Ok(0));
        }
    }
}
