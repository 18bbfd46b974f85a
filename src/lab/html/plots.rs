//! Draws plots as SVG. The page's style sheet maps every colour to a colour of the light or dark theme.

use maud::{Markup, PreEscaped, html};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::lab::report::Ratio;

type Failed = Box<dyn std::error::Error + Send + Sync>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const INK: RGBColor = RGBColor(0x11, 0x11, 0x11);
const FAINT: RGBColor = RGBColor(0x66, 0x66, 0x66);
const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
const SERIES: [RGBColor; 8] = [
    RGBColor(0x44, 0x77, 0xaa),
    RGBColor(0xc4, 0x56, 0x2f),
    RGBColor(0x2f, 0x8f, 0x4e),
    RGBColor(0xb8, 0x86, 0x0b),
    RGBColor(0x8a, 0x4f, 0xa3),
    RGBColor(0x2a, 0x9a, 0xa8),
    RGBColor(0xa0, 0x30, 0x60),
    RGBColor(0x7a, 0x7f, 0x87),
];

/// The width of the viewBox in units. This is about the width of a phone in pixels, so that texts are legible on a
/// phone.
const WIDTH: u32 = 440;
/// The font size that is passed to the library plotters. plotters divides the size by 1.24, which gives 12 units.
const FONT: f64 = 15.0;
/// The assumed width of a character in units. Most characters are narrower.
const CHARACTER: f64 = 6.7;

/// The number of colours. If a plot has more series, colours repeat.
pub(super) const COLORS: usize = SERIES.len();

fn color(series: usize) -> RGBColor {
    SERIES[series % COLORS]
}

fn written(text: &str) -> i32 {
    (text.chars().count() as f64 * CHARACTER).ceil() as i32
}

/// Returns a name, shortened so that it fits on an axis. Tables show the full name.
fn short(name: &str) -> String {
    const MOST: usize = 24;
    match name.chars().count() {
        0..=MOST => name.to_owned(),
        _ => name.chars().take(MOST - 1).chain(['…']).collect(),
    }
}

fn style<'a>(color: &'a RGBColor, h: HPos, v: VPos) -> TextStyle<'a> {
    ("sans-serif", FONT).into_font().color(color).pos(Pos::new(h, v))
}

/// Returns a figure with a plot; `label` describes the plot in words for screen readers.
pub(super) fn figure(title: &str, label: &str, svg: &str, legend: &[String], note: &str) -> Markup {
    html! {
        figure {
            h4 { (title) }
            @if !legend.is_empty() {
                ul.legend {
                    @for (at, name) in legend.iter().enumerate() {
                        li { span class=(format!("c{}", at % COLORS)) {} (name) }
                    }
                }
            }
            div.plot role="img" aria-label=(label) { (PreEscaped(svg)) }
            @if !note.is_empty() { figcaption { (note) } }
        }
    }
}

fn draw(
    height: u32,
    paint: impl FnOnce(&Area<'_>) -> Result<(), Failed>,
) -> Result<String, String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        paint(&area)
            .and_then(|()| area.present().map_err(Failed::from))
            .map_err(|e| format!("a plot: {e}"))?;
    }
    Ok(svg)
}

/// One row of a bar chart.
pub(super) struct Bars {
    pub name: String,
    /// The index of the series and the length of each stacked bar, from left to right.
    pub stack: Vec<(usize, f64)>,
    /// The index of the series and the length of a separate bar below the stacked bars.
    pub below: Option<(usize, f64)>,
    /// The text at the end of the bars.
    pub end: String,
}

/// Returns a bar chart as SVG, with stacked bars in one row for each name.
pub(super) fn bars(rows: &[Bars], unit: &str) -> Result<String, String> {
    const ROW: u32 = 34;
    let lengths = rows.iter().map(|row| {
        let stack: f64 = row.stack.iter().map(|(_, length)| length).sum();
        stack.max(row.below.map_or(0.0, |(_, length)| length))
    });
    let longest = positive(lengths.fold(0.0, f64::max));
    let names: Vec<String> = rows.iter().map(|row| short(&row.name)).collect();
    let left = names.iter().map(|name| written(name)).max().unwrap_or(0) + 12;
    // The axis leaves space for the text beside the longest bar.
    let end = rows.iter().map(|row| written(&row.end)).max().unwrap_or(0) + 8;
    let wide = f64::from((WIDTH as i32 - left - 12).max(end + 60));
    let most = longest * wide / (wide - f64::from(end));
    draw(rows.len() as u32 * ROW + 62, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin_top(8)
            .margin_right(12)
            .x_label_area_size(50)
            .set_label_area_size(LabelAreaPosition::Left, left)
            .build_cartesian_2d(0.0..most, 0.0..rows.len() as f64)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .y_labels(0)
            .x_labels(4)
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(FAINT)
            .label_style(style(&FAINT, HPos::Center, VPos::Top))
            .axis_desc_style(style(&FAINT, HPos::Center, VPos::Bottom))
            .x_label_formatter(&|x| tick(*x))
            .x_desc(unit)
            .draw()?;
        for (at, row) in rows.iter().enumerate() {
            // The plot shows the first row at the top.
            let top = (rows.len() - at) as f64;
            let split = if row.below.is_some() { 0.42 } else { 0.2 };
            let mut from = 0.0;
            for (series, length) in &row.stack {
                let corners = [(from, top - 0.15), (from + length, top - 1.0 + split)];
                chart.draw_series([Rectangle::new(corners, color(*series).filled())])?;
                from += length;
            }
            if let Some((series, length)) = row.below {
                let corners = [(0.0, top - 0.62), (length, top - 0.85)];
                chart.draw_series([Rectangle::new(corners, color(series).filled())])?;
            }
            let middle = top - (0.15 + 1.0 - split) / 2.0;
            let (x, y) = chart.backend_coord(&(from, middle));
            area.draw(&Text::new(
                row.end.clone(),
                (x + 5, y),
                style(&INK, HPos::Left, VPos::Center),
            ))?;
            let (x, y) = chart.backend_coord(&(0.0, top - 0.5));
            area.draw(&Text::new(
                names[at].clone(),
                (x - 6, y),
                style(&INK, HPos::Right, VPos::Center),
            ))?;
        }
        Ok(())
    })
}

fn positive(value: f64) -> f64 {
    if value > 0.0 && value.is_finite() { value } else { 1.0 }
}

/// Returns the label of a tick, rounded so that no floating-point rounding error is visible.
fn tick(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 1e6 => format!("{}M", trimmed(value / 1e6)),
        size if size >= 1e4 => format!("{}k", trimmed(value / 1e3)),
        _ => trimmed(value),
    }
}

fn trimmed(value: f64) -> String {
    format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A point in the plot of speed against accuracy, which shows one precision.
pub(super) struct Point {
    pub name: String,
    pub speed: Ratio,
    pub min_cosine: f64,
}

/// Returns a plot as SVG, with the speed on the horizontal axis, and the distance of the smallest cosine from 1 on a
/// logarithmic vertical axis.
pub(super) fn speed_accuracy(points: &[Point]) -> Result<String, String> {
    const HEIGHT: u32 = 340;
    let away: Vec<f64> = points.iter().map(|point| 1.0 - point.min_cosine).collect();
    let logs: Vec<f64> = away.iter().filter(|away| **away > 0.0).map(|away| away.log10()).collect();
    let minimum = logs.iter().copied().fold(-3.0, f64::min).floor();
    let maximum = logs.iter().copied().fold(minimum + 1.0, f64::max).ceil();
    // The distance of equal vectors is zero, which has no finite logarithm. The point of such vectors is drawn one
    // decade below `minimum`.
    let same = minimum - 1.0;
    let high = points.iter().map(|point| point.speed.high).fold(1.0, f64::max) * 1.1;
    let low = points.iter().map(|point| point.speed.low).fold(1.0, f64::min);
    let low = (low - (high - low) * 0.1).max(0.0);
    draw(HEIGHT, |area| {
        let (y0, y1) = (same - 0.4, maximum + 0.4);
        let mut chart = ChartBuilder::on(area)
            .margin_top(8)
            .margin_right(12)
            .x_label_area_size(50)
            .y_label_area_size(46)
            .build_cartesian_2d(low..high, y0..y1)?;
        chart
            .configure_mesh()
            .x_labels(5)
            .disable_y_mesh()
            .y_labels(0)
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(FAINT)
            .label_style(style(&FAINT, HPos::Center, VPos::Top))
            .axis_desc_style(style(&FAINT, HPos::Center, VPos::Bottom))
            .x_label_formatter(&|x| format!("{}×", tick(*x)))
            .x_desc("speed relative to the first precision")
            .draw()?;
        for decade in same as i32..=maximum as i32 {
            let y = f64::from(decade);
            chart.draw_series([PathElement::new([(low, y), (high, y)], GRID)])?;
            let name = match y == same {
                true => "same".to_owned(),
                false => format!("1e{decade}"),
            };
            let (x, y) = chart.backend_coord(&(low, y));
            area.draw(&Text::new(name, (x - 8, y), style(&FAINT, HPos::Right, VPos::Center)))?;
        }
        chart.draw_series([PathElement::new([(1.0, y0), (1.0, y1)], FAINT)])?;
        let at = |point: &Point| match 1.0 - point.min_cosine {
            away if away > 0.0 => away.log10(),
            _ => same,
        };
        // The rectangles that labels must not cover, each as [left, top, right, bottom].
        let mut taken: Vec<[i32; 4]> = Vec::new();
        for (series, point) in points.iter().enumerate() {
            let y = at(point);
            let line = [(point.speed.low, y), (point.speed.high, y)];
            chart.draw_series([PathElement::new(line, color(series).stroke_width(2))])?;
            let center = (point.speed.median, y);
            chart.draw_series([Circle::new(center, 5, color(series).filled())])?;
            let (x, y) = chart.backend_coord(&center);
            let ends = line.map(|end| chart.backend_coord(&end).0);
            taken.push([x - 6, y - 6, x + 6, y + 6]);
            taken.push([ends[0], y - 2, ends[1], y + 2]);
        }
        let (plot_left, plot_top) = chart.backend_coord(&(low, y1));
        let (plot_right, plot_bottom) = chart.backend_coord(&(high, y0));
        for (series, point) in points.iter().enumerate() {
            let name = short(&point.name);
            let (x, y) = chart.backend_coord(&(point.speed.median, at(point)));
            let wide = written(&name);
            let places = (0..60).flat_map(|step| {
                let away = step / 2 * 8 * if step % 2 == 0 { -1 } else { 1 };
                [(x + 6, y - 20 + away), (x - 6 - wide, y - 20 + away)]
            });
            let boxes = places.map(|(left, top)| [left, top, left + wide, top + 15]);
            let inside = |b: &[i32; 4]| {
                b[0] > plot_left && b[1] > plot_top && b[2] < plot_right && b[3] < plot_bottom
            };
            let apart = |b: &[i32; 4], t: &[i32; 4]| {
                b[2] <= t[0] || t[2] <= b[0] || b[3] <= t[1] || t[3] <= b[1]
            };
            let free = |b: &[i32; 4]| inside(b) && taken.iter().all(|taken| apart(b, taken));
            let place = boxes.clone().find(free).or_else(|| boxes.clone().find(inside));
            let place = place.unwrap_or([x + 10, y - 10, x + 10 + wide, y + 5]);
            taken.push(place);
            let middle = (place[1] + place[3]) / 2;
            if (middle - y).abs() > 24 {
                let near = if place[0] > x { place[0] - 2 } else { place[2] + 2 };
                area.draw(&PathElement::new([(x, y), (near, middle)], color(series)))?;
            }
            area.draw(&Text::new(name, (place[0], middle), style(&INK, HPos::Left, VPos::Center)))?;
        }
        Ok(())
    })
}

/// A group of dots at one position of the horizontal axis.
pub(super) struct Group {
    pub name: String,
    /// The index of each series, with the median, minimum and maximum of its value.
    pub dots: Vec<(usize, Ratio)>,
}

/// Returns a plot as SVG, with groups of dots. A line through each dot shows its minimum and maximum. The vertical axis
/// ends slightly above `most`.
pub(super) fn dots(groups: &[Group], series: usize, most: f64) -> Result<String, String> {
    draw(300, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin_top(12)
            .margin_right(12)
            .x_label_area_size(30)
            .y_label_area_size(46)
            .build_cartesian_2d(0.0..groups.len() as f64, 0.0..positive(most) * 1.05)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(0)
            .y_labels(5)
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(FAINT)
            .label_style(style(&FAINT, HPos::Center, VPos::Top))
            .axis_desc_style(style(&FAINT, HPos::Center, VPos::Bottom))
            .y_label_formatter(&|y| tick(*y))
            .draw()?;
        for (at, group) in groups.iter().enumerate() {
            for (own, spread) in &group.dots {
                let x = at as f64 + 0.1 + 0.8 * (*own as f64 + 0.5) / series as f64;
                let line = [(x, spread.low), (x, spread.high)];
                chart.draw_series([PathElement::new(line, color(*own).stroke_width(2))])?;
                chart.draw_series([Circle::new((x, spread.median), 4, color(*own).filled())])?;
            }
            let (x, y) = chart.backend_coord(&(at as f64 + 0.5, 0.0));
            area.draw(&Text::new(
                group.name.clone(),
                (x, y + 8),
                style(&INK, HPos::Center, VPos::Top),
            ))?;
        }
        Ok(())
    })
}
