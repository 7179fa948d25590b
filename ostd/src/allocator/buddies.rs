// SPDX-License-Identifier: MPL-2.0

//! Free memory as chunks of 2ⁿ frames, each aligned to its size (Knuth, The Art of Computer Programming, 2.5, the buddy
//! system).
//!
//! A chunk is known by its first frame: that frame's metadata holds the chunk's place in the list of its order, and so needs
//! no memory. Of two buddies, chunks that together make one of the next order, never both are in the lists.

use ostd::{
    impl_frame_meta_for,
    mm::{
        HasPaddr, PAGE_SIZE, Paddr, UniqueFrame,
        frame::linked_list::{Link, LinkedList},
    },
};

/// The binary logarithm of a chunk's frames.
pub type Order = usize;

/// How many orders there are; the largest chunk has 2 GiB.
const ORDERS: usize = 20;

/// The mark of a chunk's first frame.
#[derive(Debug)]
struct FreeChunk;

impl_frame_meta_for!(FreeChunk);

/// Free chunks by their order.
pub struct Buddies {
    chunks: [LinkedList<FreeChunk>; ORDERS],
}

impl Buddies {
    pub const fn new() -> Self {
        Self { chunks: [const { LinkedList::new() }; ORDERS] }
    }

    /// Whether there is a chunk of an order, or a larger one.
    pub fn has(&self, order: Order) -> bool {
        self.chunks[order..].iter().any(|chunks| !chunks.is_empty())
    }

    /// Takes a chunk of an order, cut from a larger one if need be.
    pub fn alloc(&mut self, order: Order) -> Option<Paddr> {
        let found = (order..ORDERS).find(|order| !self.chunks[*order].is_empty())?;
        let addr = self.take_first(found)?;
        (order..found).for_each(|half| self.add(addr + size_of_order(half), half));
        Some(addr)
    }

    /// Hands frames to `put`, one by one, at most `count`, a power of two. Those in small chunks go first, and when there are any,
    /// no large one is cut.
    pub fn alloc_singles(&mut self, count: usize, put: &mut dyn FnMut(Paddr)) {
        let most = count.ilog2() as Order;
        let mut left = count;
        for order in 0..ORDERS {
            while left >= 1 << order.min(most)
                && let Some(addr) = self.take_first(order)
            {
                let taken = order.min(most);
                (0..1 << taken).for_each(|frame| put(addr + frame * PAGE_SIZE));
                self.insert_range(addr + size_of_order(taken), (1 << order) - (1 << taken));
                left -= 1 << taken;
            }
        }
    }

    /// Adds a range of frames.
    pub fn insert_range(&mut self, mut addr: Paddr, mut frames: usize) {
        while frames != 0 {
            let aligned = (addr / PAGE_SIZE).trailing_zeros() as Order;
            let order = aligned.min(frames.ilog2() as Order).min(ORDERS - 1);
            self.insert(addr, order);
            addr += size_of_order(order);
            frames -= 1 << order;
        }
    }

    /// Adds a chunk and joins it with its buddy, and what becomes of them with theirs, as far as they are free.
    fn insert(&mut self, mut addr: Paddr, mut order: Order) {
        while order < ORDERS - 1 {
            let buddy = addr ^ size_of_order(order);
            let Some(taken) =
                self.chunks[order].cursor_mut_at(buddy).and_then(|mut cursor| cursor.take_current())
            else {
                break;
            };
            taken.reset_as_unused();
            addr = addr.min(buddy);
            order += 1;
        }
        self.add(addr, order);
    }

    /// Puts a chunk at the front of its list.
    ///
    /// # Panics
    ///
    /// Panics if the first frame is in use: OSTD gives back what is in nobody's hands.
    fn add(&mut self, addr: Paddr, order: Order) {
        let first = UniqueFrame::from_unused(addr, Link::new(FreeChunk)).expect("a free frame is in use");
        self.chunks[order].push_front(first);
    }

    fn take_first(&mut self, order: Order) -> Option<Paddr> {
        let first = self.chunks[order].pop_front()?;
        let addr = first.paddr();
        first.reset_as_unused();
        Some(addr)
    }
}

const fn size_of_order(order: Order) -> usize {
    PAGE_SIZE << order
}
