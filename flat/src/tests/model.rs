// SPDX-License-Identifier: MPL-2.0

//! Random calls beside a naive model: every mapping has its own list of bytes, and says by itself whether it must be at the same
//! address as another.

use super::*;

const POOL: usize = 64;
const FILES: u64 = 4;
const FILE_PAGES: usize = 6;
const STEPS: usize = if cfg!(miri) { 300 } else { 100_000 };

/// What the model knows of a mapping.
#[derive(Clone, Debug)]
struct Known {
    program: usize,
    start: usize,
    size: usize,
    bytes: Vec<u8>,
    /// The copy that it shows, if others may: file, offset, size.
    key: Option<(u64, usize, usize)>,
    direct: bool,
    writable: bool,
}

/// A file, and what the model knows of it.
#[derive(Clone)]
struct KnownFile {
    file: Arc<dyn File>,
    content: Vec<u8>,
    addr: usize,
    has_place: bool,
}

struct World {
    flat: Flat<Arena<'static>>,
    files: Vec<KnownFile>,
    programs: Vec<Program>,
    known: Vec<Known>,
    random: fastrand::Rng,
}

impl World {
    fn new(seed: u64) -> Self {
        let files = (1..=FILES)
            .map(|id| {
                let has_place = id % 2 == 0;
                let lost = if has_place { Capabilities::empty() } else { Capabilities::MAP_DIRECT };
                // Ends within a page.
                let file = MemFile::new(id, FILE_PAGES * PAGE - 10).without(lost);
                let (content, addr) = (file.bytes.lock().unwrap().clone(), file.addr);
                KnownFile { file: file.open(), content, addr, has_place }
            })
            .collect();
        let programs = (0..3).map(|_| program()).collect();
        Self { flat: flat(POOL), files, programs, known: vec![], random: fastrand::Rng::with_seed(seed) }
    }

    fn map(&mut self) {
        let program = self.random.usize(0..self.programs.len());
        let len = self.random.usize(1..=5 * PAGE);
        let perms = [R, RW, RX][self.random.usize(0..3)];
        let size = len.next_multiple_of(PAGE);
        let writable = perms == RW;
        if self.random.u8(0..3) == 0 {
            let request = anonymous(len, perms);
            let Some(start) = self.try_map(program, &request, size) else { return };
            let bytes = vec![0; size];
            self.known.push(Known { program, start, size, bytes, key: None, direct: false, writable });
            return;
        }
        let which = self.random.usize(0..self.files.len());
        let offset = self.random.usize(0..FILE_PAGES) * PAGE;
        let KnownFile { file, content, addr, has_place } = self.files[which].clone();
        let direct = has_place && !writable && offset + len <= content.len();
        let key = (!direct && !writable).then_some((which as u64, offset, size));
        let request = of(&file, offset, len, perms, PRIVATE);
        let twin = self.known.iter().find(|known| key.is_some() && known.key == key).map(|known| known.start);
        let needed = if direct || twin.is_some() { 0 } else { size };
        let Some(start) = self.try_map(program, &request, needed) else { return };
        if direct {
            assert_eq!(start, addr + offset);
        }
        match twin {
            Some(twin) => assert_eq!(start, twin, "an equal copy is shared"),
            None => assert!(
                !self.known.iter().any(|known| {
                    !known.direct && !direct && known.start < start + size && start < known.start + known.size
                }),
                "what is not equal overlaps"
            ),
        }
        let size = if direct { len } else { size };
        let mut bytes = vec![0; size];
        let count = size.min(content.len().saturating_sub(offset));
        bytes[..count].copy_from_slice(&content[offset..offset + count]);
        self.known.push(Known { program, start, size, bytes, key, direct, writable });
    }

    /// Maps, and checks that it fails only where there can be too little memory for `needed` bytes.
    fn try_map(&mut self, program: usize, request: &Request<'_>, needed: usize) -> Option<usize> {
        let free = self.flat.free_pages();
        match self.flat.map(&mut self.programs[program], request) {
            Ok(start) => {
                assert_eq!(self.flat.free_pages(), free - needed / PAGE);
                Some(start)
            }
            Err(Error::OutOfMemory) => {
                assert!(needed > 0 && self.flat.free_pages() == free);
                None
            }
            Err(error) => panic!("{error}: {request:?}"),
        }
    }

    fn unmap(&mut self) {
        if self.known.is_empty() {
            return;
        }
        let gone = self.known.swap_remove(self.random.usize(0..self.known.len()));
        let free = self.flat.free_pages();
        let range = gone.start..gone.start + gone.size;
        self.flat.unmap(&mut self.programs[gone.program], range).unwrap();
        let is_shown =
            gone.direct || self.known.iter().any(|other| gone.key.is_some() && other.key == gone.key);
        assert_eq!(self.flat.free_pages(), free + if is_shown { 0 } else { gone.size / PAGE });
    }

    fn write(&mut self) {
        let Some(at) = self.random.choice(0..self.known.len()) else { return };
        let known = &mut self.known[at];
        let offset = self.random.usize(0..known.size);
        let bytes = [self.random.u8(..)];
        let result = self.flat.write(&self.programs[known.program], known.start + offset, &bytes);
        // Where several overlap, another one may allow it; none does here, since what is written is never shared.
        match known.writable {
            true => {
                result.unwrap();
                known.bytes[offset] = bytes[0];
            }
            false => assert_eq!(result, Err(Error::AccessDenied)),
        }
    }

    fn check(&self) {
        for known in &self.known {
            assert_eq!(
                bytes(&self.flat, &self.programs[known.program], known.start, known.size),
                known.bytes
            );
        }
        let mut regions: Vec<usize> =
            self.known.iter().filter(|known| !known.direct).map(|known| known.start).collect();
        regions.sort_unstable();
        regions.dedup();
        assert_eq!(self.flat.regions(), regions.len());
    }
}

#[test]
fn n8_random_calls_agree_with_a_naive_model() {
    let mut world = World::new(8);
    for step in 0..STEPS {
        match world.random.u8(0..6) {
            0 | 1 => world.map(),
            2 | 3 => world.unmap(),
            _ => world.write(),
        }
        if step % 64 == 0 {
            world.check();
        }
    }
    world.check();
    while !world.known.is_empty() {
        world.unmap();
    }
    assert_eq!(world.flat.free_pages(), POOL);
    world.programs.into_iter().for_each(|program| world.flat.exit(program));
}
