//! How long a read of a thousand lines takes in each stage, or a piece of eight
//! thousand that wait, beside the least that any relay has to do with them; and
//! how many lines that is in a second.
//!
//! `cargo bench --bench stages`
#![allow(missing_docs, clippy::expect_used)]

mod path;

fn main() {
    divan::main();
}

#[divan::bench(args = path::all().iter().map(|stage| stage.name).collect::<Vec<_>>())]
fn lines(bencher: divan::Bencher, name: &str) {
    let stage = path::all().into_iter().find(|stage| stage.name == name);
    let mut stage = stage.expect("it is one of them");
    bencher
        .counter(divan::counter::ItemsCount::new(stage.lines))
        .bench_local(|| (stage.run)());
}
