//! What holds for every text that is taken for a configuration?
//!
//! It becomes a snapshot or problems with places inside the text; what a snapshot was made of can be written
//! down and read again. Never reads a file or the environment.

use config::{Format, Problems, dump, load_str};

/// Every promise about configurations.
pub fn config_text(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let is_json = text.trim_start().starts_with('{');
    let format = if is_json { Format::Json } else { Format::Toml };
    let environment = |name: &str| (name == "PORT").then(|| "8080".to_owned());
    match load_str("f", text, format, &environment) {
        Ok(loaded) => {
            assert!(!loaded.warnings.has_errors());
            assert_placed(&loaded.warnings, text);
            let dumped = dump(&loaded.schema);
            let again = load_str("f", &dumped, Format::Toml, &|_| None)
                .unwrap_or_else(|problems| panic!("cannot be read again: {problems}\n{dumped}"));
            assert_eq!(again.snapshot.fingerprint, loaded.snapshot.fingerprint, "{dumped}");
            assert_whole(&again.snapshot);
        }
        Err(problems) => {
            assert!(problems.has_errors(), "refused without an error");
            assert_placed(&problems, text);
        }
    }
}

/// Each problem points at a place of the text, and says something in one line.
fn assert_placed(problems: &Problems, text: &str) {
    let lines: Vec<&str> = text.split('\n').collect();
    for problem in problems {
        let line = lines.get(problem.line as usize - 1);
        let columns = line.map_or(0, |line| line.chars().count() + 1);
        assert!((1..=columns).contains(&(problem.column as usize)), "{problem}");
        assert!(!problem.cause.is_empty());
        assert!(!problem.to_string().contains('\n'), "more than one line: {problem}");
    }
    let _ = (problems.render(false), problems.render(true));
}

/// No id in a snapshot points beside it.
fn assert_whole(snapshot: &config::snapshot::Snapshot) {
    assert!(!snapshot.listeners.is_empty() || snapshot.admin.is_some());
    for upstream in &snapshot.upstreams {
        let end = upstream.slots_first.0 + upstream.slots_count;
        assert!(upstream.endpoints.len() <= usize::from(upstream.slots_count));
        assert!(upstream.slots_count > 0 && end <= snapshot.slots_count);
    }
}
