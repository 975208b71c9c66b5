//! The figures of all rounds and their comparison.

use crate::CONTENDERS;

/// Figures in the order in which they were first added.
#[derive(Default)]
pub struct Figures(Vec<Figure>);

struct Figure {
    what: String,
    unit: &'static str,
    rounds: Vec<[f64; CONTENDERS]>,
}

impl Figures {
    /// Adds the values of one round.
    pub fn add(&mut self, what: &str, unit: &'static str, round: [f64; CONTENDERS]) {
        match self.0.iter_mut().find(|f| f.what == what) {
            Some(figure) => figure.rounds.push(round),
            None => self.0.push(Figure { what: what.to_owned(), unit, rounds: vec![round] }),
        }
    }

    /// Prints the medians as a table in Markdown.
    pub fn print(&self, rounds: usize) {
        println!("| {rounds} rounds | unit | before | after | after by before | before by itself | spread | |");
        println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
        for figure in &self.0 {
            let median_of = |value: fn(&[f64; CONTENDERS]) -> f64| median(figure.rounds.iter().map(value).collect());
            let [before, after] = [median_of(|r| r[0]), median_of(|r| r[1])];
            let [ratio, same] = [median_of(|r| r[1] / r[0]), median_of(|r| r[2] / r[0])];
            // In half of the rounds the ratio of the version to itself was no further from 1.
            let spread = median_of(|r| (r[2] / r[0] - 1.0).abs());
            let verdict = if ratio <= 1.0 + spread { "≤ 1.00 plus the spread" } else { "more" };
            println!(
                "| {} | {} | {before:.1} | {after:.1} | {ratio:.3} | {same:.3} | {spread:.3} | {verdict} |",
                figure.what, figure.unit
            );
        }
    }
}

/// The median; of an even number of values the mean of the middle two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}
