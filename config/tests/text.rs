//! What is read of a file, and what is made of it later?

use std::collections::BTreeSet;
use std::fs;

use config::Text;
use config::snapshot::cluster::ModuleState;

#[test]
fn a_text_is_what_was_read_whatever_becomes_of_its_file() {
    let path = std::env::temp_dir().join(format!("corelane-text-{}.toml", std::process::id()));
    fs::write(&path, "listener.web.bind = '127.0.0.1:0'\nchannel.a.respond = {}\nchannel.b.respond = {}")
        .expect("write");
    let text = Text::read(&path).unwrap_or_else(|problems| panic!("{problems}"));
    fs::remove_file(&path).expect("it was written");
    assert_eq!(text.name(), path.display().to_string());
    let load = |stopped: &[&str]| {
        let stopped: BTreeSet<String> = stopped.iter().map(|name| (*name).to_owned()).collect();
        text.load(&stopped).unwrap_or_else(|problems| panic!("{problems}")).snapshot
    };
    let (whole, part) = (load(&[]), load(&["channel.a"]));
    assert_eq!(whole.fingerprint, part.fingerprint, "what is stopped is not what is written");
    let state =
        |name: &str| part.modules.iter().find(|module| *module.name == *name).map(|module| &module.state);
    assert_eq!(state("channel.a"), Some(&ModuleState::Stopped));
    assert_eq!(state("channel.b"), Some(&ModuleState::Started));
    let problem = Text::read(&path).expect_err("it is gone").to_string();
    assert!(problem.contains("cannot read the file"), "{problem}");
}
