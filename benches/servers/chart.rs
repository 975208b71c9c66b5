//! SVG charts, readable on light and dark backgrounds. The first row is eDNS'.

use std::fmt::Write as _;

const STYLE: &str = "<style>\
    text{font:13px system-ui,sans-serif;fill:#1f2328}.dim{fill:#59636e}.end{text-anchor:end}.mid{text-anchor:middle}\
    .theirs{fill:#8c959f;stroke:#8c959f}.ours{fill:#0969da;stroke:#0969da}.grid{stroke:#8c959f;stroke-opacity:.35}\
    @media(prefers-color-scheme:dark){text{fill:#f0f6fc}.dim{fill:#9198a1}\
    .theirs{fill:#7d8590;stroke:#7d8590}.ours{fill:#4493f8;stroke:#4493f8}}</style>\n";
const WIDTH: usize = 900;
const NAMES: usize = 165;
const ROW: usize = 26;
const HEAD: usize = 34;
/// Width of the figure after a bar.
const FIGURE: usize = 62;

/// A figure of all contenders.
pub struct Bars {
    pub title: String,
    pub values: Vec<f64>,
}

/// Panels side by side, each with a scale of its own from 0.
pub fn bars(names: &[&str], panels: &[Bars]) -> String {
    let mut out = start(names, 0);
    let width = (WIDTH - NAMES) / panels.len();
    for (i, Bars { title, values }) in panels.iter().enumerate() {
        let x = NAMES + i * width;
        writeln!(out, "<text class=\"dim\" x=\"{x}\" y=\"18\">{title}</text>").expect("memory");
        let most = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        for (row, value) in values.iter().enumerate() {
            let (y, length) = (top(row), value.max(0.0) / most * (width - FIGURE - 10) as f64);
            let end = x as f64 + length + 6.0;
            writeln!(
                out,
                "<rect class=\"{}\" x=\"{x}\" y=\"{y}\" width=\"{length:.1}\" height=\"16\" rx=\"2\"/>\
                 <text x=\"{end:.1}\" y=\"{}\">{}</text>",
                class(row),
                y + 13,
                figure(*value)
            )
            .expect("memory");
        }
    }
    out + "</svg>\n"
}

/// Three dots per row on a logarithmic scale.
pub fn dots(title: &str, names: &[&str], rows: &[[f64; 3]]) -> String {
    let mut out = start(names, 24);
    writeln!(out, "<text class=\"dim\" x=\"{NAMES}\" y=\"18\">{title}</text>").expect("memory");
    let all = || rows.iter().flatten().map(|v| v.max(1.0).log10());
    let (low, high) = (all().fold(f64::MAX, f64::min).floor(), all().fold(0.0, f64::max).ceil());
    let x = |value: f64| NAMES as f64 + (value.max(1.0).log10() - low) / (high - low) * (WIDTH - NAMES - 50) as f64;
    let bottom = top(rows.len());
    for power in low as i32..=high as i32 {
        let value = 10_f64.powi(power);
        let x = x(value);
        writeln!(
            out,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{bottom}\"/>\
             <text class=\"dim mid\" x=\"{x:.1}\" y=\"{}\">{value}</text>",
            top(0) - 4,
            bottom + 16
        )
        .expect("memory");
    }
    for (row, [p50, p99, p999]) in rows.iter().enumerate() {
        let (y, class) = (top(row) + 8, class(row));
        let [a, b, c] = [p50, p99, p999].map(|p| x(*p));
        writeln!(
            out,
            "<g class=\"{class}\"><line x1=\"{a:.1}\" x2=\"{c:.1}\" y1=\"{y}\" y2=\"{y}\" stroke-width=\"2\"/>\
             <circle cx=\"{a:.1}\" cy=\"{y}\" r=\"4\"/><circle cx=\"{b:.1}\" cy=\"{y}\" r=\"6\"/><circle cx=\"{c:.1}\" cy=\"{y}\" r=\"4\"/></g>\
             <text x=\"{:.1}\" y=\"{}\">{}</text>",
            c + 10.0,
            y + 5,
            figure(*p999)
        )
        .expect("memory");
    }
    out + "</svg>\n"
}

/// Head of a chart: the names of the rows, with this much room below them.
fn start(names: &[&str], below: usize) -> String {
    let height = top(names.len()) + below;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">\n{STYLE}"
    );
    for (row, name) in names.iter().enumerate() {
        writeln!(out, "<text class=\"end\" x=\"{}\" y=\"{}\">{name}</text>", NAMES - 10, top(row) + 13)
            .expect("memory");
    }
    out
}

const fn top(row: usize) -> usize {
    HEAD + row * ROW
}

const fn class(row: usize) -> &'static str {
    if row == 0 { "ours" } else { "theirs" }
}

/// A figure with three significant digits and separated thousands.
fn figure(value: f64) -> String {
    match value {
        v if v < 10.0 => format!("{v:.1}"),
        v if v < 10_000.0 => format!("{v:.0}"),
        v => format!("{:.0},{:03}", (v / 1000.0).floor(), v as u64 % 1000),
    }
}
