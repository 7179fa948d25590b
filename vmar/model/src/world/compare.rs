// SPDX-License-Identifier: MPL-2.0

//! Comparing the framework's spaces and objects with the model's.

use std::{collections::BTreeSet, sync::Arc};

use vmar::{
    machine::{Frame, PageFlags},
    mapping::{MappedMemory, MappingFlags},
    sim::{PAGE_SIZE, Process},
};

use super::{ARENA, Running, World};
use crate::naive::{Source, Space, WORDS, addrs};

impl World {
    /// Compares everything.
    pub(super) fn compare(&self) {
        let mut frames = BTreeSet::new();
        for running in &self.running {
            running.compare_mappings();
            let Running { process, space, .. } = running;
            let resident = process.resident();
            let is_resident = |addr| resident.binary_search_by_key(&addr, |entry| entry.addr).is_ok();
            for (addr, page) in &space.pages {
                assert!(page.private.is_none() || is_resident(*addr), "{addr:#x} is not there");
                // Who watches would be asked for what is missing.
                if page.watch.is_some() && !is_resident(*addr) {
                    continue;
                }
                for which in 0..2 {
                    let mut bytes = [0; 8];
                    let result = process.vmar.read_bytes_forced(addr + WORDS[which], &mut bytes);
                    let expected = page.content(&self.objects).map(|content| content[which]);
                    assert_eq!(result.ok().map(|_| u64::from_le_bytes(bytes)), expected, "{addr:#x}");
                }
            }
            let entries = process.resident();
            frames
                .extend(entries.iter().filter(|entry| !entry.is_zero_frame).filter_map(|entry| entry.frame));
        }
        for (vmo, object) in self.vmos.iter().zip(&self.objects) {
            assert_eq!(vmo.size(), object.size);
            frames.extend((0..object.count()).filter_map(|index| Some(vmo.page(index)?.id())));
        }
        self.sim.quiesce();
        assert_eq!(self.sim.live_frames(), frames.len(), "frames that nobody holds are in use");
    }
}

impl Running {
    /// Compares what is mapped, and what a space notes of it.
    pub(super) fn compare_mappings(&self) {
        let Self { process, space, servers } = self;
        let mut seen = 0;
        for info in process.vmar.query(ARENA).iter() {
            let watcher = info.watcher();
            for (distance, addr) in addrs(info.range()).enumerate() {
                let Some(page) = space.pages.get(&addr) else { panic!("{addr:#x} is mapped") };
                let flags = info.flags() - MappingFlags::TRACKED - MappingFlags::LABEL;
                assert_eq!((info.perms(), flags), (page.perms, page.flags), "{addr:#x}");
                assert_eq!((info.is_shared(), info.label()), (page.is_shared(), page.label), "{addr:#x}");
                match (info.memory(), page.source) {
                    (MappedMemory::Anonymous, Source::Anonymous) => {}
                    (MappedMemory::Vmo { offset, .. }, Source::Object { index, .. }) => {
                        assert_eq!(offset / PAGE_SIZE + distance, index, "{addr:#x}");
                    }
                    (memory, source) => panic!("{addr:#x} shows {memory:?}, not {source:?}"),
                }
                assert_eq!(info.is_write_protected(addr), page.is_marked, "{addr:#x}: its mark");
                assert_eq!(watcher.map(|(_, modes)| modes), page.watch.map(|(_, modes)| modes), "{addr:#x}");
                if let (Some((handler, _)), Some((who, _))) = (watcher, page.watch) {
                    let expected = Arc::as_ptr(&servers[who as usize]).addr();
                    assert_eq!(Arc::as_ptr(handler).addr(), expected, "{addr:#x} is another's");
                }
                seen += 1;
            }
            if info.flags().contains(MappingFlags::TRACKED) {
                info.for_each_page(&info.range(), |addr, found| {
                    let page = &space.pages[&addr];
                    // The entry of an object's page may have gone, and with it what it told.
                    let is_written = page.is_written && page.private.is_some();
                    let is_told = found.flags.contains(PageFlags::DIRTY);
                    assert!(is_told || !is_written, "{addr:#x}: a write is not told");
                });
            }
        }
        assert_eq!(seen, space.pages.len(), "pages are missing");
        assert_eq!(process.vmar.usage().address_space, seen * PAGE_SIZE);
    }
}

/// Returns whether what is noted of some page is another thing than a space says.
pub(super) fn flags_differ(process: &Process, space: &Space) -> bool {
    process.vmar.query(ARENA).iter().any(|info| {
        let flags = info.flags() - MappingFlags::TRACKED - MappingFlags::LABEL;
        addrs(info.range()).any(|addr| space.pages.get(&addr).is_none_or(|page| page.flags != flags))
    })
}
