//! How is a running process told that somebody has moved its access logs? By its admin listener, as SIGUSR1 would.
//!
//! Never touches a file itself.

use std::process::ExitCode;

use crate::cli::AdminArgs;
use crate::client::AdminClient;
use crate::print;

/// `engine logs reopen`.
pub(crate) fn reopen(args: &AdminArgs) -> anyhow::Result<ExitCode> {
    let answer = AdminClient::new(&args.admin).send("POST", "/logs/reopen", None)?;
    if args.json {
        return print(&format!("{answer:#}\n"));
    }
    print(&format!("{} access logs are opened anew\n", answer["logs"]))
}
