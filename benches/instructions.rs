//! Runs one stage a number of times and nothing else, for a tool that counts
//! instructions: `tests/instructions.sh`.
#![allow(missing_docs, clippy::expect_used)]

mod path;

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let (Some(name), Some(rounds)) = (arguments.next(), arguments.next()) else {
        for stage in path::all() {
            println!("{} {}", stage.name, stage.lines);
        }
        return;
    };
    let rounds: usize = rounds.parse().expect("how often");
    let stage = path::all().into_iter().find(|stage| stage.name == name);
    let mut stage = stage.expect("a stage");
    for _ in 0..rounds {
        (stage.run)();
    }
}
