// SPDX-License-Identifier: MPL-2.0

//! The chart: how many times Linux's instructions each operation takes, less clearing, on a logarithmic scale.
//!
//! A bar that goes to the left of 1 is faster than Linux, one that goes to the right is slower.

use anyhow::{Result, anyhow};
use plotters::prelude::{
    ChartBuilder, Color, IntoDrawingArea, IntoLogRange, IntoSegmentedCoord, RGBColor, Rectangle, SVGBackend,
    SegmentValue, WHITE,
};

use super::report::Pair;

/// The least and the most that is drawn; what is beyond is cut there.
const RANGE: (f64, f64) = (0.03, 30.0);
const FASTER: RGBColor = RGBColor(0x2e, 0x7d, 0x32);
const SLOWER: RGBColor = RGBColor(0xc6, 0x28, 0x28);
/// Pixels.
const WIDTH: u32 = 900;
const ROW: u32 = 16;
const MARGINS: u32 = 90;

/// An operation's name and ratio; none is drawn as no bar.
type Bar = (String, Option<f64>);

/// Draws the pairs from top to bottom, as SVG.
pub fn draw(pairs: &[Pair<'_>]) -> Result<String> {
    let bar = |pair: &Pair<'_>| {
        let name = &pair.operation.name;
        match pair.ratio_less_clearing() {
            Some(ratio) => (name.clone(), Some(ratio.clamp(RANGE.0, RANGE.1))),
            None => (format!("{name} (no ratio)"), None),
        }
    };
    let bars: Vec<Bar> = pairs.iter().rev().map(bar).collect();
    let mut svg = String::new();
    if !bars.is_empty() {
        draw_bars(&mut svg, &bars).map_err(|error| anyhow!("the chart cannot be drawn: {error}"))?;
    }
    Ok(svg + "\n")
}

fn draw_bars(svg: &mut String, bars: &[Bar]) -> Result<(), Box<dyn std::error::Error>> {
    let height = MARGINS + ROW * bars.len() as u32;
    let area = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(
            "Tessera's instructions by Linux's, less clearing (to the left is faster)",
            ("sans-serif", 16),
        )
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(190)
        .build_cartesian_2d((RANGE.0..RANGE.1).log_scale(), (0..bars.len()).into_segmented())?;
    let name = |value: &SegmentValue<usize>| match value {
        SegmentValue::CenterOf(number) => bars.get(*number).map(|bar| bar.0.clone()).unwrap_or_default(),
        SegmentValue::Exact(_) | SegmentValue::Last => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(bars.len())
        .y_label_formatter(&name)
        .y_label_style(("sans-serif", 11))
        .x_label_formatter(&|ratio| format!("{ratio}"))
        .draw()?;
    chart.draw_series(bars.iter().enumerate().filter_map(|(number, (_, ratio))| {
        let ratio = (*ratio)?;
        let colour = if ratio <= 1.0 { FASTER } else { SLOWER };
        let corners = [(1.0, SegmentValue::Exact(number)), (ratio, SegmentValue::Exact(number + 1))];
        let mut bar = Rectangle::new(corners, colour.filled());
        bar.set_margin(2, 2, 0, 0);
        Some(bar)
    }))?;
    area.present()?;
    Ok(())
}
