//! Nanoseconds that a thousand lines take in each stage, beside the least that
//! any relay has to do with them.
//!
//! `cargo bench --bench stages`
#![allow(missing_docs, clippy::expect_used)]

mod path;

fn main() {
    divan::main();
}

#[divan::bench(args = path::all().iter().map(|stage| stage.name).collect::<Vec<_>>())]
fn thousand_lines(bencher: divan::Bencher, name: &str) {
    let stage = path::all().into_iter().find(|stage| stage.name == name);
    let mut stage = stage.expect("it is one of them");
    bencher
        .counter(divan::counter::ItemsCount::new(path::LINES))
        .bench_local(|| (stage.run)());
}
