//! Plots of a study, each as PNG and as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use epaint_default_fonts::UBUNTU_LIGHT;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;

use super::Done;
use super::figures::deliveries;
use super::report::punches;

/// Unit: pixels.
const SIZE: (u32, u32) = (900, 520);

/// A curve for each cell that has one: its name and its points.
type Curves = Vec<(String, Vec<(f64, f64)>)>;

/// Names of bars and their lengths.
type Bars = Vec<(String, f64)>;

/// Draws everything that there are numbers for.
pub(super) fn draw(out: &Path, done: &[Done]) -> Result<()> {
    register_font("sans-serif", FontStyle::Normal, UBUNTU_LIGHT)
        .map_err(|_| anyhow!("the font of the plots is not one"))?;
    let flat = |done: &&Done| !done.figures.cell.nat;
    for (name, impaired) in [("latency-cdf-impaired", true), ("latency-cdf-clean", false)] {
        let cells = done.iter().filter(flat).filter(|done| done.figures.cell.impaired == impaired);
        let curves: Curves = cells.map(|done| (name_of(done), cdf(&done.figures.latencies))).collect();
        lines(out, name, "share of deliveries by latency", ("ms", "share"), &curves)?;
    }
    let named = |of: &dyn Fn(&Done) -> Vec<(f64, f64)>| -> Curves {
        done.iter().filter(flat).map(|done| (name_of(done), of(done))).collect()
    };
    lines(out, "throughput", "deliveries per second", ("s", "per second"), &named(&throughput))?;
    lines(
        out,
        "peers",
        "others that a node knows of, mean",
        ("s since the start", "members"),
        &named(&members),
    )?;
    let cpu: Bars =
        done.iter().filter(flat).map(|done| (name_of(done), done.figures.cpu_ms_per_second())).collect();
    bars(out, "cpu", "CPU time of a process (of mosquitto: the broker)", "ms per second", &cpu)?;
    if let Some(homes) = done.iter().find(|done| done.figures.cell.nat) {
        let mut outcomes = Bars::new();
        for kind in ["dcutr", "prediction", "guessing", "walk", "unplanned"] {
            for outcome in ["opened", "missed", "failed"] {
                outcomes.push((format!("{kind} {outcome}"), punches(&homes.record, kind, outcome)));
            }
        }
        outcomes.retain(|(_, count)| *count > 0.0);
        bars(out, "punches", "attempts to punch, of all nodes", "attempts", &outcomes)?;
    }
    Ok(())
}

fn name_of(done: &Done) -> String {
    done.figures.cell.to_string()
}

/// 400 points of the distribution, up to its 99.9th percentile: the rest is one line to the right.
fn cdf(sorted: &[f64]) -> Vec<(f64, f64)> {
    (0..=400)
        .map(|step| f64::from(step) / 400.0 * 0.999)
        .map(|share| (super::figures::percentile(sorted, share), share))
        .filter(|point| point.0.is_finite())
        .collect()
}

/// Deliveries in each second of the measurement, by when they arrived.
fn throughput(done: &Done) -> Vec<(f64, f64)> {
    let record = &done.record;
    let mut seconds = vec![0_u32; record.seconds as usize];
    for delivery in deliveries(record).0 {
        let sent = record.sent[delivery.author][delivery.number as usize];
        let at = sent.map(|sent| (sent - record.measured_from).as_secs_f64() + delivery.ms / 1000.0);
        if let Some(second) = at.and_then(|at| seconds.get_mut(at as usize)) {
            *second += 1;
        }
    }
    (0..).zip(seconds).map(|(second, count)| (f64::from(second), f64::from(count))).collect()
}

/// Means over all nodes in steps of 250 ms, until a second after the last change before the measurement.
fn members(done: &Done) -> Vec<(f64, f64)> {
    let record = &done.record;
    let changes = || record.accounts.iter().map(|account| &account.members);
    let seconds = |at: std::time::Instant| at.saturating_duration_since(record.start).as_secs_f64();
    let end = changes().flatten().map(|(at, _)| seconds(*at)).fold(0.0, f64::max) + 1.0;
    if changes().all(Vec::is_empty) {
        return Vec::new();
    }
    let mean = |at: f64| {
        let known = changes().map(|changes| {
            changes.iter().take_while(|(when, _)| seconds(*when) <= at).last().map_or(0, |(_, count)| *count)
        });
        known.sum::<usize>() as f64 / record.accounts.len() as f64
    };
    (0..(end * 4.0) as u32).map(|step| f64::from(step) / 4.0).map(|at| (at, mean(at))).collect()
}

fn lines(out: &Path, name: &str, title: &str, axes: (&str, &str), curves: &Curves) -> Result<()> {
    let curves: Curves = curves.iter().filter(|(_, points)| points.len() > 1).cloned().collect();
    if curves.is_empty() {
        return Ok(());
    }
    both(out, name, |png| draw_lines(png, title, axes, &curves), |svg| draw_lines(svg, title, axes, &curves))
}

fn bars(out: &Path, name: &str, title: &str, unit: &str, bars: &Bars) -> Result<()> {
    let bars: Bars = bars.iter().filter(|(_, value)| value.is_finite()).cloned().collect();
    if bars.is_empty() {
        return Ok(());
    }
    both(out, name, |png| draw_bars(png, title, unit, &bars), |svg| draw_bars(svg, title, unit, &bars))
}

/// The same picture as PNG and as SVG.
fn both(
    out: &Path,
    name: &str,
    png: impl FnOnce(&DrawingArea<BitMapBackend<'_>, Shift>) -> Result<()>,
    svg: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Result<()>,
) -> Result<()> {
    let path = out.join(format!("{name}.png"));
    let area = BitMapBackend::new(&path, SIZE).into_drawing_area();
    png(&area)?;
    area.present().map_err(|e| anyhow!("{}: {e}", path.display()))?;
    drop(area);
    let path = out.join(format!("{name}.svg"));
    let area = SVGBackend::new(&path, SIZE).into_drawing_area();
    svg(&area)?;
    area.present().map_err(|e| anyhow!("{}: {e}", path.display()))
}

fn draw_lines<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    title: &str,
    (x_name, y_name): (&str, &str),
    curves: &Curves,
) -> Result<()> {
    let failed = |e: DrawingAreaErrorKind<B::ErrorType>| anyhow!("{title}: {e}");
    let points = || curves.iter().flat_map(|(_, points)| points);
    let most = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(0.0, f64::max).max(0.001);
    area.fill(&WHITE).map_err(failed)?;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..most(|point| point.0) * 1.02, 0.0..most(|point| point.1) * 1.05)
        .map_err(failed)?;
    chart.configure_mesh().x_desc(x_name).y_desc(y_name).light_line_style(WHITE).draw().map_err(failed)?;
    for (number, (name, points)) in curves.iter().enumerate() {
        let style = ShapeStyle { color: colour(number), filled: false, stroke_width: 2 };
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style))
            .map_err(failed)?
            .label(name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 14))
        .draw()
        .map_err(failed)
}

fn draw_bars<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    title: &str,
    unit: &str,
    bars: &Bars,
) -> Result<()> {
    let failed = |e: DrawingAreaErrorKind<B::ErrorType>| anyhow!("{title}: {e}");
    let most = bars.iter().map(|(_, value)| *value).fold(0.0, f64::max).max(0.001);
    let count = bars.len() as f64;
    area.fill(&WHITE).map_err(failed)?;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(180)
        .build_cartesian_2d(0.0..most * 1.15, 0.0..count)
        .map_err(failed)?;
    // Labels stand in the middle of their bars.
    let name = |y: &f64| bars.iter().rev().nth(*y as usize).map(|(name, _)| name.clone()).unwrap_or_default();
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(0)
        .x_desc(unit)
        .light_line_style(WHITE)
        .draw()
        .map_err(failed)?;
    for (number, (_, value)) in bars.iter().rev().enumerate() {
        let y = number as f64;
        let style = colour(bars.len() - 1 - number).filled();
        chart.draw_series([Rectangle::new([(0.0, y + 0.15), (*value, y + 0.85)], style)]).map_err(failed)?;
        let font = ("sans-serif", 14).into_font();
        let digits = if value.fract() == 0.0 { 0 } else { 2 };
        chart
            .draw_series([Text::new(format!(" {value:.digits$}"), (*value, y + 0.6), font.clone())])
            .map_err(failed)?;
        let at = chart.backend_coord(&(0.0, y + 0.6));
        let base = area.get_base_pixel();
        area.draw(&Text::new(name(&y), (16, at.1 - base.1), font)).map_err(failed)?;
    }
    Ok(())
}

/// Twelve that can be told apart.
fn colour(number: usize) -> RGBAColor {
    const COLOURS: [RGBColor; 12] = [
        RGBColor(31, 119, 180),
        RGBColor(255, 127, 14),
        RGBColor(44, 160, 44),
        RGBColor(214, 39, 40),
        RGBColor(148, 103, 189),
        RGBColor(140, 86, 75),
        RGBColor(227, 119, 194),
        RGBColor(127, 127, 127),
        RGBColor(188, 189, 34),
        RGBColor(23, 190, 207),
        RGBColor(0, 0, 0),
        RGBColor(150, 200, 120),
    ];
    COLOURS[number % COLOURS.len()].to_rgba()
}
