//! Can every planted fault still be planted?
//!
//! Sweeping them takes minutes and is `mutants/run`'s; a patch that the sources have outgrown is found here.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn every_mutant_still_fits_the_sources() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = package.join("../..");
    let patches = fs::read_dir(package.join("mutants")).expect("a directory of patches");
    let patches: Vec<_> = patches.map(|entry| entry.expect("an entry").path()).collect();
    let patches: Vec<_> =
        patches.iter().filter(|path| path.extension().is_some_and(|is| is == "patch")).collect();
    assert!(patches.len() >= 36, "{} patches", patches.len());
    for patch in patches {
        let tried = Command::new("patch")
            .args(["--dry-run", "-p1", "-F3", "-d"])
            .arg(&root)
            .arg("-i")
            .arg(patch)
            .output()
            .expect("the program `patch` runs");
        assert!(tried.status.success(), "{}: {}", patch.display(), String::from_utf8_lossy(&tried.stdout));
    }
}
