//! Figures of several runs as a table.

use crate::bench::relay::Kind;

/// What must be 0, and what must be where nothing may be lost.
const NEVER: [&str; 3] = ["twice", "corrupt", "unexplained"];
const LOST: &str = "lost";

/// One figure of one run.
#[derive(Clone, Copy)]
pub struct Figure {
    name: &'static str,
    value: f64,
    decimals: usize,
}

/// The figures of one scenario.
pub struct Report {
    title: String,
    may_lose: bool,
    runs: Vec<(Kind, Vec<Figure>)>,
}

impl Figure {
    pub fn of(name: &'static str, value: f64, decimals: usize) -> Self {
        Self {
            name,
            value,
            decimals,
        }
    }

    pub fn count(name: &'static str, count: u64) -> Self {
        Self::of(name, count as f64, 0)
    }
}

impl Report {
    pub fn new(title: String, may_lose: bool) -> Self {
        Self {
            title,
            may_lose,
            runs: Vec::new(),
        }
    }

    pub fn add(&mut self, kind: Kind, figures: Vec<Figure>) {
        self.runs.push((kind, figures));
    }

    /// Whether nothing happened to lines that should not.
    pub fn is_sound(&self) -> bool {
        let is_sound = |figure: &Figure| {
            let matters = NEVER.contains(&figure.name) || (figure.name == LOST && !self.may_lose);
            !matters || figure.value == 0.0
        };
        self.runs
            .iter()
            .all(|(_, figures)| figures.iter().all(is_sound))
    }

    /// As Markdown: a row for each kind, and one for their ratio.
    pub fn print(&self) {
        let Some((_, first)) = self.runs.first() else {
            return;
        };
        let names: Vec<&str> = first.iter().map(|figure| figure.name).collect();
        println!("| {} | {} |", self.title, names.join(" | "));
        println!("|---|{}", "---|".repeat(names.len()));
        for (kind, name) in [(Kind::Floor, "floor"), (Kind::Daemon, "sidecarbon")] {
            if self.runs.iter().any(|(of, _)| *of == kind) {
                let cells: Vec<String> = first
                    .iter()
                    .enumerate()
                    .map(|(column, figure)| cell(&self.sorted(kind, column), figure.decimals))
                    .collect();
                println!("| {name} | {} |", cells.join(" | "));
            }
        }
        let ratios: Vec<String> = (0..names.len()).map(|column| self.ratio(column)).collect();
        if ratios.iter().any(|ratio| !ratio.is_empty()) {
            println!("| ratio | {} |", ratios.join(" | "));
        }
        if !self.is_sound() {
            println!("\nNot sound: lines were lost, or came twice or harmed.");
        }
        println!();
    }

    /// The values of one column, the lowest first.
    fn sorted(&self, kind: Kind, column: usize) -> Vec<f64> {
        let runs = self.runs.iter().filter(|(of, _)| *of == kind);
        let mut values: Vec<f64> = runs.map(|(_, figures)| figures[column].value).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    /// Of the daemon's median to the floor's; nothing where one is missing.
    fn ratio(&self, column: usize) -> String {
        let median = |kind| median(&self.sorted(kind, column)).filter(|value| *value != 0.0);
        match (median(Kind::Floor), median(Kind::Daemon)) {
            (Some(floor), Some(daemon)) => format!("{:.2}", daemon / floor),
            _ => String::new(),
        }
    }
}

/// Of sorted values.
pub fn median(values: &[f64]) -> Option<f64> {
    let (low, high) = ((values.len().checked_sub(1)?) / 2, values.len() / 2);
    Some(f64::midpoint(values[low], values[high]))
}

/// The median, and where there are several values their ends.
fn cell(values: &[f64], decimals: usize) -> String {
    match (median(values), values) {
        (Some(median), [least, .., most]) => {
            format!("{median:.decimals$} ({least:.decimals$}-{most:.decimals$})")
        }
        (Some(median), _) => format!("{median:.decimals$}"),
        (None, _) => String::new(),
    }
}
