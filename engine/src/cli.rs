//! Which commands and flags are there? The one table behind parser, help and messages.
//!
//! Never carries a flag out. What is not available is refused here, not ignored elsewhere.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use runtime::DriverChoice;
use runtime::cores::CoreCount;

/// Thread-per-core HTTP gateway.
///
/// Without a command it serves: the configuration of --config, a quick reverse proxy of --listen and --to, or an
/// embedded default that answers by itself.
#[derive(Debug, Parser)]
#[command(name = "engine", version, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true, after_help = SIGNALS)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

const SIGNALS: &str = "\
Signals: SIGTERM and SIGINT drain (no new connections; exchanges in progress finish) and end with
exit code 0. A second one ends at once. SIGHUP reads the configuration file and certificates again
and applies what is new; what cannot be used changes nothing.";

/// How to serve.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Executors, each pinned to a CPU of its own: a positive number, or 'auto' for all CPUs this process may use
    #[arg(long, visible_alias = "cluster", value_name = "N|auto", default_value = "auto")]
    pub(crate) cores: CoreCount,

    /// Configuration file, TOML or (when its name ends in .json) JSON
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["listen", "to"])]
    pub(crate) config: Option<PathBuf>,

    /// Quick reverse proxy: address to listen on; may be repeated
    #[arg(long, value_name = "ADDR", requires = "to")]
    pub(crate) listen: Vec<String>,

    /// Quick reverse proxy: addresses to forward to, in turn
    #[arg(long, value_name = "ADDR[,ADDR...]", requires = "listen")]
    pub(crate) to: Vec<String>,

    /// What the cores ask the kernel through: 'auto', 'uring' or 'epoll'
    ///
    /// 'auto' is what measured best: io_uring. Where that cannot be set up, epoll takes its place.
    #[arg(long, value_name = "DRIVER", default_value = "auto")]
    pub(crate) driver: DriverChoice,

    /// Move every port of this process up by N, admin's too
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) port_offset: u16,

    /// Admin address instead of the configured one
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<SocketAddr>,

    /// Check the configuration and exit: 0 if it can be used, 1 if not
    #[arg(short = 't')]
    pub(crate) check: bool,

    /// Form of log lines
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,

    /// Least important log lines to write
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t = LogLevel::Info)]
    pub(crate) log_level: LogLevel,

    #[arg(long, hide = true, value_parser = refuse_process_id)]
    process_id: Option<String>,

    #[arg(long, hide = true, value_parser = refuse_not_available)]
    node: Option<String>,

    #[arg(long, hide = true, value_parser = refuse_not_available)]
    store: Option<String>,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Least important log lines to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// What to do instead of serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check a configuration file: every problem with its place; exit code 0 or 1
    Check(CheckArgs),
    /// Show configurations
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Say whether an engine runs, and how
    Status(AdminArgs),
    /// Have a running engine read its configuration file again, as SIGHUP does; exit code 1 if it keeps what it runs
    Reload(AdminArgs),
    /// Show what a running engine has counted
    Stats(AdminArgs),
    /// Show and change the endpoints of a running engine
    #[command(subcommand)]
    Upstream(UpstreamCommand),
    /// Write what LVS, the kernel's balancer, would be told to do the same
    Render(RenderArgs),
}

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Configuration file
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

/// Which configuration to show.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// The embedded default, to begin a file with
    Default,
    /// The JSON schema of the configuration
    Schema,
    /// A configuration with every default filled in
    Dump(DumpArgs),
}

#[derive(Args, Debug)]
pub(crate) struct DumpArgs {
    /// Configuration file; left out, the embedded default
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// What to do with endpoints.
#[derive(Debug, Subcommand)]
pub(crate) enum UpstreamCommand {
    /// All upstreams with their endpoints
    List(AdminArgs),
    /// One upstream with its endpoints
    Show(ShowArgs),
    /// Add an endpoint
    Add(AddArgs),
    /// Give an endpoint nothing new; what it has begun goes on
    Drain(EndpointArgs),
    /// Use an endpoint again that drains
    Up(EndpointArgs),
    /// Drain an endpoint, and remove it when it has finished
    Remove(RemoveArgs),
    /// Change an endpoint's share beside the others'; 0 takes nothing new
    Weight(WeightArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// Name of the upstream
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// One endpoint of a running engine.
#[derive(Args, Debug)]
pub(crate) struct EndpointArgs {
    /// Name of the upstream
    pub(crate) name: String,

    /// Address of the endpoint: IP:PORT, localhost:PORT or unix:/PATH
    pub(crate) address: String,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Args, Debug)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    pub(crate) endpoint: EndpointArgs,

    #[command(flatten)]
    pub(crate) terms: TermsArgs,
}

/// What an endpoint gets, where that is not the default.
#[derive(Args, Debug)]
pub(crate) struct TermsArgs {
    /// Its share beside the others', 0 to 65535
    #[arg(long, value_name = "N")]
    pub(crate) weight: Option<u16>,

    /// 0 is used first, others while no endpoint of a lower number can be
    #[arg(long, value_name = "N")]
    pub(crate) priority: Option<u8>,

    /// Connections that it may have
    #[arg(long, value_name = "N")]
    pub(crate) max_connections: Option<u32>,

    /// Once it had as many, it gets more when it has fewer than this
    #[arg(long, value_name = "N")]
    pub(crate) min_connections: Option<u32>,

    /// Where it stands
    #[arg(long, value_name = "NAME")]
    pub(crate) zone: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    pub(crate) endpoint: EndpointArgs,

    /// Do not wait for what is in progress there; it goes on all the same
    #[arg(long)]
    pub(crate) now: bool,
}

#[derive(Args, Debug)]
pub(crate) struct WeightArgs {
    #[command(flatten)]
    pub(crate) endpoint: EndpointArgs,

    /// Its share, 0 to 65535
    pub(crate) weight: u16,
}

/// What to write for LVS, and from what.
#[derive(Args, Debug)]
pub(crate) struct RenderArgs {
    /// Commands for ipvsadm, or a part of keepalived.conf
    #[arg(value_enum)]
    pub(crate) form: RenderForm,

    /// Configuration file; left out, the running engine is asked, with the endpoints that it has now
    #[arg(long, short, value_name = "FILE", conflicts_with = "admin")]
    pub(crate) config: Option<PathBuf>,

    /// Admin address of the engine
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9000")]
    pub(crate) admin: String,

    /// Address of the services of listeners that listen on every address
    #[arg(long, value_name = "IP")]
    pub(crate) address: Option<IpAddr>,
}

/// For which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RenderForm {
    Ipvsadm,
    Keepalived,
}

/// Where a running engine is asked.
#[derive(Args, Debug)]
pub(crate) struct AdminArgs {
    /// Admin address of the engine
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9000")]
    pub(crate) admin: String,

    /// Print the answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn refuse_process_id(_: &str) -> Result<String, &'static str> {
    Err("process IDs are assigned automatically, so that no two are ever alike; leave the flag out")
}

fn refuse_not_available(_: &str) -> Result<String, &'static str> {
    Err("clusters are not available yet in this version; give the configuration by --config")
}
