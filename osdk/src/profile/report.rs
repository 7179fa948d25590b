// SPDX-License-Identifier: MPL-2.0

//! A profile as a table and as a flame graph.
//!
//! All numbers are instructions for one unit of the operation: the mean of all samples but the first.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    fs::File,
    io::BufWriter,
    path::Path,
};

use anyhow::{Context, Result, bail};
use inferno::flamegraph::{self, Options, Palette, color::MultiPalette};

use super::{
    stacks::{Samples, Stack},
    symbols::{Function, Symbols},
    trace::{Trace, Window},
};

/// Which of two ways to look at inlined functions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    /// They are a part of the function that they were inlined in.
    Compiled,
    /// They are functions.
    Source,
}

/// Instructions of a function itself, and of it together with what it called.
#[derive(Clone, Copy, Default)]
struct Row {
    itself: f64,
    inclusive: f64,
}

/// Where the instructions of an operation went.
pub struct Profile {
    title: String,
    /// The samples' instructions for one unit: the least, the median, the most.
    spread: [f64; 3],
    mean: f64,
    samples: usize,
    /// What the benchmark's own clock says, which leaves out what reading it takes.
    measured: u64,
    /// Whole stacks of functions, the innermost last, each with which of them are inlined; for one unit.
    stacks: Vec<(Vec<(Function, bool)>, f64)>,
    names: Vec<String>,
}

impl Profile {
    /// Makes a profile of the last `rounds` samples in a trace, each of so many units of the operation.
    ///
    /// # Errors
    ///
    /// When there are no samples, or fewer instructions in each than the benchmark has measured.
    pub fn new(
        title: &str,
        trace: &Trace,
        symbols: &mut Symbols,
        rounds: usize,
        units: u64,
        measured: u64,
    ) -> Result<Self> {
        let enters_kernel = |window: &&Window| window.runs.iter().any(|run| trace.block(run).is_kernel());
        // Before an operation its clock is tried out.
        let windows: Vec<&Window> = trace.windows.iter().filter(enters_kernel).collect();
        // The first sample is often another matter; what it left on the stacks is of use, though.
        let first = windows.len().saturating_sub(rounds) + usize::from(rounds > 1);
        let samples = Samples::new(trace, &windows, first);
        let windows = windows.get(first..).unwrap_or_default();
        if windows.is_empty() {
            bail!("no sample of the operation was taken");
        }

        let scale = 1.0 / (windows.len() as f64 * units as f64);
        let mut places: HashMap<(Stack, u64), u64> = HashMap::new();
        for (place, times) in &samples.places {
            let block = &trace.blocks[place.block as usize];
            for index in place.first..place.first + place.count {
                *places.entry((place.stack, block.instruction(index.into()))).or_default() += times;
            }
        }
        let mut stacks: BTreeMap<Vec<(Function, bool)>, u64> = BTreeMap::new();
        for ((stack, address), times) in places {
            let mut addresses: Vec<u64> = samples.calls(stack).collect();
            addresses.reverse();
            addresses.push(address);
            let functions = addresses.into_iter().flat_map(|address| {
                let functions = symbols.at(address);
                (0..functions.len()).map(move |index| (functions[index], index > 0))
            });
            *stacks.entry(functions.collect()).or_default() += times;
        }

        let mut totals: Vec<u64> = windows.iter().map(|window| window.instructions).collect();
        totals.sort_unstable();
        let spread = [totals[0], totals[totals.len() / 2], totals[totals.len() - 1]];
        // The marks are around what the clock is read for; its figure is rounded.
        if spread[2] + units < measured * units {
            bail!(
                "the plugin saw {} instructions where the benchmark measured {}",
                spread[2],
                measured * units
            );
        }
        let known = stacks.keys().flatten().map(|(function, _)| function + 1).max().unwrap_or_default();
        Ok(Self {
            title: title.to_owned(),
            spread: spread.map(|total| total as f64 / units as f64),
            mean: stacks.values().sum::<u64>() as f64 * scale,
            samples: windows.len(),
            measured,
            stacks: stacks.into_iter().map(|(stack, times)| (stack, times as f64 * scale)).collect(),
            names: (0..known).map(|function| symbols.name(function).to_owned()).collect(),
        })
    }

    fn rows(&self, view: View) -> Vec<(&str, Row)> {
        let mut rows: HashMap<Function, Row> = HashMap::new();
        for (stack, instructions) in &self.stacks {
            let stack: Vec<Function> = stack
                .iter()
                .filter(|(_, is_inlined)| view == View::Source || !is_inlined)
                .map(|(function, _)| *function)
                .collect();
            if let Some(innermost) = stack.last() {
                rows.entry(*innermost).or_default().itself += instructions;
            }
            for function in stack.into_iter().collect::<BTreeSet<_>>() {
                rows.entry(function).or_default().inclusive += instructions;
            }
        }
        let mut rows: Vec<(&str, Row)> =
            rows.into_iter().map(|(function, row)| (self.names[function].as_str(), row)).collect();
        rows.sort_by(|(a_name, a), (b_name, b)| {
            b.itself.total_cmp(&a.itself).then(b.inclusive.total_cmp(&a.inclusive)).then(a_name.cmp(b_name))
        });
        rows
    }

    /// What the profile is of, and how large the samples are.
    fn heading(&self) -> String {
        let [least, median, most] = self.spread.map(number);
        format!(
            "{}: {} instructions\n(mean of {} samples; least {least}, median {median}, most {most}; \
             the benchmark says {})\n",
            self.title,
            number(self.mean),
            self.samples,
            number(self.measured as f64),
        )
    }

    /// The whole table.
    pub fn table(&self) -> String {
        let mut text = self.heading();
        let mut part = |title: &str, rows: &[(&str, Row)]| {
            let _ = writeln!(text, "\n{title}\n\n{HEADER}  function");
            for (name, row) in rows {
                let _ = writeln!(text, "{}  {name}", self.line(row));
            }
        };
        let mut part_of = |view: View, what: &str| {
            let mut rows = self.rows(view);
            part(&format!("Functions {what}, by their own instructions"), &rows);
            rows.sort_by(|(_, a), (_, b)| b.inclusive.total_cmp(&a.inclusive));
            part(&format!("Functions {what}, by the instructions of what they call as well"), &rows);
        };
        part_of(View::Compiled, "as compiled");
        if self.stacks.iter().any(|(stack, _)| stack.iter().any(|(_, is_inlined)| *is_inlined)) {
            part_of(View::Source, "as written, inlined ones apart");
        }
        text
    }

    /// By whom the functions were called whose names contain `name`, what they called included.
    ///
    /// Each line has the functions around it, inlined ones apart, from the inside out.
    pub fn callers(&self, name: &str, most: usize) -> String {
        const AROUND: usize = 8;
        let mut ways: BTreeMap<Vec<&str>, f64> = BTreeMap::new();
        for (stack, instructions) in &self.stacks {
            let names: Vec<&str> = stack.iter().map(|(function, _)| self.names[*function].as_str()).collect();
            if let Some(position) = names.iter().position(|function| function.contains(name)) {
                let first = (position + 1).saturating_sub(AROUND);
                let way = names[first..=position].iter().rev().copied().collect();
                *ways.entry(way).or_default() += instructions;
            }
        }
        let mut ways: Vec<_> = ways.into_iter().collect();
        ways.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        let mut text = format!("\n{}: callers of {name}\n\n inclusive  function ◄ callers\n", self.title);
        for (way, instructions) in ways.iter().take(most) {
            let _ = writeln!(text, "{:>10}  {}", number(*instructions), way.join(" ◄ "));
        }
        text
    }

    fn line(&self, row: &Row) -> String {
        let share = if self.mean > 0.0 { 100.0 * row.itself / self.mean } else { 0.0 };
        format!("{:>10} {share:>5.1}% {:>10}", number(row.itself), number(row.inclusive))
    }

    /// Draws the flame graph.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn draw(&self, path: &Path) -> Result<()> {
        /// Boxes have whole numbers; hundredths of an instruction are enough.
        const PARTS: f64 = 100.0;
        let name = |(function, is_inlined): &(Function, bool)| {
            let name = self.names[*function].replace(';', ":");
            if *is_inlined { name + "_[i]" } else { name }
        };
        let lines: Vec<String> = self
            .stacks
            .iter()
            .map(|(stack, instructions)| {
                let names: Vec<String> = stack.iter().map(name).collect();
                format!("{} {:.0}", names.join(";"), instructions * PARTS)
            })
            .collect();
        let mut options = Options::default();
        options.title = self.title.clone();
        options.subtitle = Some(format!("{} instructions; inlined functions in blue", number(self.mean)));
        options.count_name = "instructions".to_owned();
        options.name_type = "Function:".to_owned();
        // Known to the palette of Java: what ends in _[i] was inlined.
        options.colors = Palette::Multi(MultiPalette::Java);
        options.hash = true;
        options.deterministic = true;
        options.factor = 1.0 / PARTS;
        options.image_width = Some(1600);
        let file = File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
        flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), BufWriter::new(file))
            .with_context(|| format!("{} cannot be drawn", path.display()))
    }
}

/// The first lines of two tables, next to each other.
pub fn side_by_side(profiles: &[&Profile], most: usize) -> String {
    const WIDTH: usize = 48;
    let mut text: String = profiles.iter().map(|profile| profile.heading()).collect();
    let tables: Vec<_> = profiles.iter().map(|profile| (profile, profile.rows(View::Compiled))).collect();
    let wide: Vec<String> = tables.iter().map(|_| format!("{HEADER}  {:<WIDTH$}", "function")).collect();
    let _ = writeln!(text, "\n{}", wide.join(" |").trim_end());
    for index in 0..most.min(tables.iter().map(|(_, rows)| rows.len()).max().unwrap_or_default()) {
        let cells = tables.iter().map(|(profile, rows)| match rows.get(index) {
            Some((name, row)) => format!("{}  {:<WIDTH$}", profile.line(row), end_of(name, WIDTH)),
            None => " ".repeat(HEADER.len() + 2 + WIDTH),
        });
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join(" |").trim_end());
    }
    text
}

const HEADER: &str = "      self  share  inclusive";

/// The end of a name, which says more than its begin.
fn end_of(name: &str, most: usize) -> String {
    let length = name.chars().count();
    if length <= most {
        name.to_owned()
    } else {
        format!("…{}", name.chars().skip(length + 1 - most).collect::<String>())
    }
}

/// A number with as many digits as are of interest.
fn number(value: f64) -> String {
    let is_whole = (value - value.round()).abs() < 0.05;
    let digits = usize::from(!is_whole && value < 10_000.0);
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), ""), |(whole, part)| (whole, part));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if fraction.is_empty() { grouped } else { format!("{grouped}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::{end_of, number};

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(number(0.0), "0");
        assert_eq!(number(0.26), "0.3");
        assert_eq!(number(999.04), "999");
        assert_eq!(number(1234.5), "1,234.5");
        assert_eq!(number(1_234_567.8), "1,234,568");
    }

    #[test]
    fn names_are_cut_at_their_begin() {
        assert_eq!(end_of("short", 5), "short");
        assert_eq!(end_of("too::long", 5), "…long");
    }
}
