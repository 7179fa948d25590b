// SPDX-License-Identifier: MPL-2.0

//! The interval map beside `BTreeMap`, `rangemap` and `memory_set`: find, insert, remove and gap search.
//!
//! Run with `cargo bench -p vmar --bench interval_map`. It prints one table and fails if a demand of the design is
//! missed:
//!
//! - find, insert and remove take no more than [`SLOWER`] times what a `BTreeMap<usize, (usize, V)>` takes, which
//!   neither checks for overlaps nor knows of gaps;
//! - at a million mappings a gap search is at least [`FASTER`] times faster than that of `memory_set` at its worst.
//!
//! The machine may be busy with other things. So the candidates take turns, a few milliseconds each for many rounds;
//! what is printed is the median over the rounds, and a ratio is the median of the ratios within a round.

use std::{
    collections::BTreeMap, fmt::Display, hint::black_box, ops::Range, process::ExitCode, time::Instant,
};

use memory_set::{MappingBackend, MemoryArea, MemorySet};
use rangemap::RangeMap;
use vmar::interval_map::IntervalMap;

const SLOWER: f64 = 1.5;
const FASTER: f64 = 100.0;

const SIZES: [usize; 3] = [1_000, 65_530, 1_000_000];
const PAGE: usize = 4096;
/// From the start of one mapping to that of the next; see [`mapping`].
const STRIDE: usize = 16 * PAGE;
/// The size only the one wide gap has room for, before the last mapping.
const WIDE: usize = 64 * PAGE;

/// Sixty-four bytes: about what a mapping holds.
type Value = [u64; 8];

/// A map from ranges to values, as the benchmark uses it.
trait Candidate: Default {
    const NAME: &'static str;

    /// The value at an address that is mapped, reduced to a number.
    fn find(&self, addr: usize) -> u64;
    fn insert(&mut self, range: Range<usize>, value: Value);
    /// Removes exactly the mapping of that range.
    fn remove(&mut self, range: Range<usize>);
    fn lowest_gap(&self, size: usize, limits: Range<usize>) -> Option<usize>;

    /// How many removals can be afforded in a round.
    fn removals(mappings: usize) -> usize {
        batch(mappings)
    }

    /// How many gap searches can be afforded in a round: here each looks at every mapping.
    fn searches(mappings: usize) -> usize {
        (100_000 / mappings).max(1)
    }
}

impl Candidate for IntervalMap<Value> {
    const NAME: &'static str = "interval_map";

    fn find(&self, addr: usize) -> u64 {
        self.find(addr).map_or(0, |(_, value)| value[0])
    }

    fn insert(&mut self, range: Range<usize>, value: Value) {
        assert!(self.insert(range, value).is_ok());
    }

    fn remove(&mut self, range: Range<usize>) {
        assert!(self.remove(range.start).is_some());
    }

    fn lowest_gap(&self, size: usize, limits: Range<usize>) -> Option<usize> {
        self.lowest_gap(size, PAGE, limits)
    }

    fn searches(_mappings: usize) -> usize {
        1000
    }
}

impl Candidate for BTreeMap<usize, (usize, Value)> {
    const NAME: &'static str = "BTreeMap";

    fn find(&self, addr: usize) -> u64 {
        match self.range(..=addr).next_back() {
            Some((_, (end, value))) if addr < *end => value[0],
            _ => 0,
        }
    }

    fn insert(&mut self, range: Range<usize>, value: Value) {
        assert!(self.insert(range.start, (range.end, value)).is_none());
    }

    fn remove(&mut self, range: Range<usize>) {
        assert!(self.remove(&range.start).is_some());
    }

    fn lowest_gap(&self, size: usize, limits: Range<usize>) -> Option<usize> {
        let before = self.range(..limits.start).next_back().map_or(0, |(_, (end, _))| *end);
        let mut free = limits.start.max(before);
        for (start, (end, _)) in self.range(limits.start..limits.end) {
            if start - free >= size {
                return Some(free);
            }
            free = *end;
        }
        (limits.end >= free && limits.end - free >= size).then_some(free)
    }
}

impl Candidate for RangeMap<usize, Value> {
    const NAME: &'static str = "rangemap";

    fn find(&self, addr: usize) -> u64 {
        self.get(&addr).map_or(0, |value| value[0])
    }

    fn insert(&mut self, range: Range<usize>, value: Value) {
        self.insert(range, value);
    }

    fn remove(&mut self, range: Range<usize>) {
        self.remove(range);
    }

    fn lowest_gap(&self, size: usize, limits: Range<usize>) -> Option<usize> {
        self.gaps(&limits).find(|gap| gap.len() >= size).map(|gap| gap.start)
    }
}

/// The least that `memory_set` asks for: mappings without a page table.
#[derive(Clone)]
struct Unmapped(Value);

impl MappingBackend for Unmapped {
    type Addr = usize;
    type Flags = ();
    type PageTable = ();

    fn map(&self, _: usize, _: usize, _: (), _: &mut ()) -> bool {
        true
    }

    fn unmap(&self, _: usize, _: usize, _: &mut ()) -> bool {
        true
    }

    fn protect(&self, _: usize, _: usize, _: (), _: &mut ()) -> bool {
        true
    }
}

struct Set(MemorySet<Unmapped>);

impl Default for Set {
    fn default() -> Self {
        Self(MemorySet::new())
    }
}

impl Candidate for Set {
    const NAME: &'static str = "memory_set";

    fn find(&self, addr: usize) -> u64 {
        self.0.find(addr).map_or(0, |area| area.backend().0[0])
    }

    fn insert(&mut self, range: Range<usize>, value: Value) {
        let area = MemoryArea::new(range.start, range.len(), (), Unmapped(value));
        assert!(self.0.map(area, &mut (), false).is_ok());
    }

    fn remove(&mut self, range: Range<usize>) {
        assert!(self.0.unmap(range.start, range.len(), &mut ()).is_ok());
    }

    fn lowest_gap(&self, size: usize, limits: Range<usize>) -> Option<usize> {
        self.0.find_free_area(limits.start, size, (limits.start..limits.end).try_into().ok()?, PAGE)
    }

    /// Each removal looks at every mapping.
    fn removals(mappings: usize) -> usize {
        (1_000_000 / mappings).clamp(2, batch(mappings))
    }
}

/// How many mappings are found, inserted and removed in a round.
fn batch(mappings: usize) -> usize {
    (mappings / 10).min(10_000)
}

fn rounds(mappings: usize) -> usize {
    (20_000_000 / mappings).clamp(25, 400)
}

/// A small generator, so that each run does the same.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn shuffled(&mut self, mut items: Vec<usize>) -> Vec<usize> {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
        items
    }
}

/// What a round does, the same for each candidate.
struct Round {
    /// Addresses that are mapped.
    finds: Vec<usize>,
    /// Starts of pages amid gaps, in the order of insertion.
    inserts: Vec<usize>,
    /// The same in the order of removal.
    removes: Vec<usize>,
    /// Where gap searches begin: low, so that nearly all mappings lie before the gap.
    searches: Vec<usize>,
}

impl Round {
    fn new(mappings: usize, random: &mut Random) -> Self {
        let count = batch(mappings);
        let finds =
            (0..count.max(2_000)).map(|_| random.below(mappings - 1) * STRIDE + random.below(PAGE)).collect();
        let part = mappings / count;
        let inserts = (0..count)
            .map(|at| mapping(at * part + random.below(part - 1)).end + (1 + random.below(6)) * PAGE)
            .collect();
        let inserts = random.shuffled(inserts);
        let removes = random.shuffled(inserts.clone());
        let searches =
            (0..1000).map(|_| random.below(mappings / 100 + 1) * STRIDE + random.below(4) * PAGE).collect();
        Self { finds, inserts, removes, searches }
    }
}

/// One of the mappings that are always there: one to eight pages, so that gaps differ too.
fn mapping(at: usize) -> Range<usize> {
    let pages = 1 + (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61);
    at * STRIDE..at * STRIDE + pages * PAGE
}

fn page(start: usize) -> Range<usize> {
    start..start + PAGE
}

/// The last mapping; before it is the wide gap.
fn last(mappings: usize) -> usize {
    mappings * STRIDE + WIDE
}

fn fill<C: Candidate>(mappings: usize) -> C {
    let mut map = C::default();
    for at in Random(7).shuffled((0..mappings - 1).collect()) {
        map.insert(mapping(at), [at as u64; 8]);
    }
    map.insert(page(last(mappings)), [0; 8]);
    map
}

/// Nanoseconds for one of `count` operations.
fn time(count: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / count as f64
}

/// Nanoseconds for find, insert, remove and gap search.
type Times = [f64; 4];

fn run<C: Candidate>(map: &mut C, mappings: usize, round: &Round) -> Times {
    let find = time(round.finds.len(), || {
        let sum = round.finds.iter().map(|addr| map.find(*addr)).fold(0, u64::wrapping_add);
        black_box(sum);
    });
    let count = C::removals(mappings).min(round.inserts.len());
    // What cannot be removed again in reasonable time is not inserted.
    let (inserts, removes) = if count == round.inserts.len() {
        (&round.inserts[..], &round.removes[..])
    } else {
        (&round.inserts[..count], &round.inserts[..count])
    };
    let insert = time(count, || {
        for start in inserts {
            map.insert(page(*start), [*start as u64; 8]);
        }
    });
    let remove = time(count, || {
        for start in removes {
            map.remove(page(*start));
        }
    });
    let searches = &round.searches[..C::searches(mappings)];
    let expected = Some(mapping(mappings - 2).end);
    let gap = time(searches.len(), || {
        for start in searches {
            assert_eq!(map.lowest_gap(black_box(WIDE), *start..last(mappings)), expected);
        }
    });
    [find, insert, remove, gap]
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn grouped(number: impl Display) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Measures at one size, prints its rows, and tells whether the demands are met.
fn measure(mappings: usize) -> bool {
    let mut ours: IntervalMap<Value> = fill(mappings);
    let mut btree: BTreeMap<usize, (usize, Value)> = fill(mappings);
    let mut ranges: RangeMap<usize, Value> = fill(mappings);
    let mut set: Set = fill(mappings);
    let mut random = Random(42);
    let mut results: Vec<[Times; 4]> = Vec::new();
    for number in 0..rounds(mappings) + 2 {
        let round = Round::new(mappings, &mut random);
        let mut times = [[0.0; 4]; 4];
        // Who comes first changes, so that nobody always finds the caches as the same other one leaves them.
        for turn in 0..4 {
            let who = (number + turn) % 4;
            times[who] = match who {
                0 => run(&mut ours, mappings, &round),
                1 => run(&mut btree, mappings, &round),
                2 => run(&mut ranges, mappings, &round),
                _ => run(&mut set, mappings, &round),
            };
        }
        results.push(times);
    }
    // The first rounds warm up.
    results.drain(..2);

    let mut met = true;
    for (operation, name) in ["find", "insert", "remove", "gap search"].into_iter().enumerate() {
        let times = |who: usize| median(results.iter().map(|round| round[who][operation]));
        let ratio = |of: usize, to: usize| {
            median(results.iter().map(|round| round[of][operation] / round[to][operation]))
        };
        let to_btree = ratio(0, 1);
        let (demand, passed) = match operation {
            3 if mappings == 1_000_000 => {
                let faster = ratio(3, 0);
                (
                    format!("{}x faster than memory_set (>= {FASTER})", grouped(faster as u64)),
                    faster >= FASTER,
                )
            }
            3 => (String::new(), true),
            _ => (format!("<= {SLOWER} of BTreeMap"), to_btree <= SLOWER),
        };
        met &= passed;
        let verdict = match passed {
            true if demand.is_empty() => "",
            true => "PASS",
            false => "FAIL",
        };
        let cells: String = (0..4).map(|who| format!("{:>14}", grouped(times(who).round()))).collect();
        let row =
            format!("{:>10}  {name:<10}{cells}{to_btree:>10.4}  {verdict:<4}  {demand}", grouped(mappings));
        println!("{}", row.trim_end());
    }
    met
}

fn main() -> ExitCode {
    println!("nanoseconds for one operation, median; ratio: interval_map to BTreeMap");
    let names: String = [
        <IntervalMap<Value> as Candidate>::NAME,
        <BTreeMap<usize, (usize, Value)> as Candidate>::NAME,
        <RangeMap<usize, Value> as Candidate>::NAME,
        <Set as Candidate>::NAME,
    ]
    .map(|name| format!("{name:>14}"))
    .concat();
    println!("{:>10}  {:<10}{names}{:>10}", "mappings", "operation", "ratio");
    // All sizes are measured, whatever the first ones say.
    let met = SIZES.map(measure).into_iter().all(|met| met);
    println!("{}", if met { "PASS: all demands are met" } else { "FAIL: a demand is missed" });
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
