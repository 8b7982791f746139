//! How does libFuzzer get its first inputs? `seeds TARGET DIRECTORY` writes them there, one file each.
//!
//! Never removes what a run has found.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [target, directory] = &arguments[..] else {
        return Err(io::Error::other("usage: seeds TARGET DIRECTORY"));
    };
    let seeds = fuzz::seeds_of(target);
    if seeds.is_empty() {
        let names: Vec<&str> = fuzz::TARGETS.iter().map(|target| target.name).collect();
        return Err(io::Error::other(format!("no target {target}; there are {}", names.join(", "))));
    }
    fs::create_dir_all(directory)?;
    for (index, seed) in seeds.iter().enumerate() {
        fs::write(Path::new(directory).join(format!("seed-{index}")), seed)?;
    }
    Ok(())
}
