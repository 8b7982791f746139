//! Which commands and flags are there? The one table behind parser, help and messages.
//!
//! Never carries a flag out. What is not available is refused here, not ignored elsewhere.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use control::LogLevels;
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
and applies what is new; what cannot be used changes nothing. SIGUSR2 starts the program again,
which takes the sockets over and serves; this process finishes what it has. If it cannot, nothing changes.";

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

    /// Least important log lines to write: off, error, warn, info, debug or trace; others for parts follow, as in
    /// 'info,control=debug'
    #[arg(long, value_name = "LEVEL[,PART=LEVEL...]", default_value = "info")]
    pub(crate) log_level: LogLevels,

    #[arg(long, hide = true, value_parser = refuse_process_id)]
    process_id: Option<String>,

    /// Join the cluster whose store is here: sqlite:PATH or postgres://USER@HOST/DATABASE
    #[arg(long, value_name = "URL", conflicts_with_all = ["listen", "to"])]
    pub(crate) store: Option<String>,

    #[command(flatten)]
    pub(crate) member: MemberArgs,

    /// Where to keep a copy of the last configuration that ran, to start from while the store is away
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

/// Which node of a cluster, and the key of its secrets.
#[derive(Args, Debug)]
pub(crate) struct MemberArgs {
    /// ID of the node: 1 to 30 of A-Z a-z 0-9 _ - .
    #[arg(long, value_name = "ID", value_parser = node_id)]
    pub(crate) node: Option<String>,

    /// File of the key that secrets in the store are encrypted with
    #[arg(long, value_name = "FILE")]
    pub(crate) store_key: Option<PathBuf>,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
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
    Reload(ReloadArgs),
    /// Have a running engine replaced by the program that is installed now, as SIGUSR2 does; exit code 1 if it goes on
    Upgrade(AdminArgs),
    /// Show what a running engine has counted
    Stats(AdminArgs),
    /// Watch what a running engine does, refreshed each second
    Top(TopArgs),
    /// Have a running engine finish what it has and end, as SIGTERM does
    Drain(DrainSelfArgs),
    /// Show which log lines a running engine writes, or have it write others
    LogLevel(LogLevelArgs),
    /// Have a running engine open its access logs anew
    #[command(subcommand)]
    Logs(LogsCommand),
    /// Show and change the endpoints of a running engine
    #[command(subcommand)]
    Upstream(UpstreamCommand),
    /// Show the cluster that a running engine belongs to, and have its processes do something
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Show and change who may log in
    #[command(subcommand)]
    User(UserCommand),
    /// Write what another program is told: LVS, the kernel's balancer, to do the same, or systemd, to run this
    Render(RenderArgs),
    /// Write what a shell completes commands and flags by
    Completions(CompletionsArgs),
    /// Write manual pages, one for each command
    Man(ManArgs),
}

/// What to do with access logs.
#[derive(Debug, Subcommand)]
pub(crate) enum LogsCommand {
    /// Open the files anew, as SIGUSR1 does, once they have been moved
    Reopen(AdminArgs),
}

#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    /// Admin address of the engine
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9000")]
    pub(crate) admin: String,

    /// How often it is asked: 100ms to 1h
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub(crate) interval: Duration,

    /// One look, as text, after one interval; as when standard output is no terminal
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DrainSelfArgs {
    /// Wait until it has ended; exit code 1 if it has not by its own deadline
    #[arg(long)]
    pub(crate) wait: bool,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Args, Debug)]
pub(crate) struct LogLevelArgs {
    /// off, error, warn, info, debug or trace; others for parts follow, as in 'info,control=debug'
    #[arg(value_name = "LEVEL[,PART=LEVEL...]")]
    pub(crate) level: Option<LogLevels>,

    /// For how long, such as 10m; left out, until it is changed again or the engine ends
    #[arg(long = "for", value_name = "TIME", requires = "level")]
    pub(crate) time: Option<String>,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ReloadArgs {
    #[command(flatten)]
    pub(crate) admin: AdminArgs,

    /// Only say what it would do; exit code 0 if nothing, 1 if something, 2 if the file cannot be used
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Configuration file
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

/// Which configuration to show, or what to make of it.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// The embedded default, to begin a file with
    Default,
    /// The JSON schema of the configuration
    Schema,
    /// A configuration with every default filled in
    Dump(DumpArgs),
    /// Put a file into the store as the next version of a node's configuration; exit code 1 if it is not made active
    Push(PushArgs),
    /// What a running engine would do with a file: table by table, key by key; with a store, what the node's configuration there
    /// says otherwise. Exit code 0 if nothing, 1 if something, 2 if the file cannot be used
    Diff(DiffArgs),
    /// The versions of a node's configuration, the newest first
    History(HistoryArgs),
    /// Make an earlier version of a node's configuration anew
    Rollback(RollbackArgs),
}

/// Where a cluster is asked: one of its processes, or its store.
#[derive(Args, Debug)]
pub(crate) struct ClusterArgs {
    /// Admin address of a process of the cluster
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9000")]
    pub(crate) admin: String,

    /// The store itself, without asking a process
    #[arg(long, value_name = "URL", conflicts_with = "admin")]
    pub(crate) store: Option<String>,

    #[command(flatten)]
    pub(crate) member: MemberArgs,

    /// Print the answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct PushArgs {
    /// Configuration file
    pub(crate) file: PathBuf,

    /// The version that was edited: refused if another is active by now. Left out, the active one
    #[arg(long, value_name = "VERSION")]
    pub(crate) base: Option<u64>,

    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) comment: String,

    #[command(flatten)]
    pub(crate) at: ClusterArgs,
}

#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    /// Configuration file
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) at: ClusterArgs,
}

#[derive(Args, Debug)]
pub(crate) struct HistoryArgs {
    #[command(flatten)]
    pub(crate) at: ClusterArgs,
}

#[derive(Args, Debug)]
pub(crate) struct RollbackArgs {
    /// Which version
    #[arg(value_name = "VERSION")]
    pub(crate) version: u64,

    #[command(flatten)]
    pub(crate) at: ClusterArgs,
}

/// What to ask of a cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// How a process belongs to its cluster, and who else does
    Status(AdminArgs),
    /// Every process of the cluster
    Processes(AdminArgs),
    /// Have a process finish what it has and end
    Drain(DrainArgs),
    /// What a node is made of; 'start' and 'stop' change what of it runs
    Modules(ModulesArgs),
}

#[derive(Args, Debug)]
pub(crate) struct DrainArgs {
    /// ID of the process
    pub(crate) process: String,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ModulesArgs {
    /// What to do with a module; left out, all are listed
    #[arg(value_enum, requires = "name")]
    pub(crate) change: Option<ModuleChange>,

    /// Name of the module, such as listener.web
    pub(crate) name: Option<String>,

    /// ID of the node; left out, that of the process that is asked
    #[arg(long, value_name = "ID", value_parser = node_id)]
    pub(crate) node: Option<String>,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// What to do with a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModuleChange {
    Start,
    Stop,
}

#[derive(Args, Debug)]
pub(crate) struct DumpArgs {
    /// Configuration file; left out, the embedded default
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// What to do with users. Who asks is said by CORELANE_USER and CORELANE_PASSWORD_FILE.
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// All users with their roles
    List(AdminArgs),
    /// Add a user
    Add(NewUserArgs),
    /// Give a user another password; he has to log in again
    Password(PasswordArgs),
    /// Give a user other roles; he has to log in again
    Roles(RolesArgs),
    /// Let a user log in no more, and log him out
    Disable(UserArgs),
    /// Let a user log in again
    Enable(UserArgs),
    /// Remove a user, and log him out
    Remove(UserArgs),
}

#[derive(Args, Debug)]
pub(crate) struct UserArgs {
    /// Name of the user
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Args, Debug)]
pub(crate) struct NewUserArgs {
    #[command(flatten)]
    pub(crate) user: UserArgs,

    /// Roles: administrator, operator, editor, viewer, auditor
    #[arg(long, value_name = "ROLE[,ROLE...]", value_delimiter = ',')]
    pub(crate) roles: Vec<String>,

    /// File with the user's password; left out, it is read from standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct PasswordArgs {
    #[command(flatten)]
    pub(crate) user: UserArgs,

    /// File with the user's password; left out, it is read from standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct RolesArgs {
    #[command(flatten)]
    pub(crate) user: UserArgs,

    /// Roles: administrator, operator, editor, viewer, auditor
    #[arg(value_name = "ROLE", required = true)]
    pub(crate) roles: Vec<String>,
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

/// What to complete.
#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,

    /// What the program is called where it is installed
    #[arg(long = "as", value_name = "NAME", default_value = "engine")]
    pub(crate) name: String,
}

/// Where to write manual pages.
#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// Directory, which is there already
    pub(crate) directory: PathBuf,

    /// What the program is called where it is installed
    #[arg(long = "as", value_name = "NAME", default_value = "engine")]
    pub(crate) name: String,
}

/// What to write for another program, and from what.
#[derive(Args, Debug)]
pub(crate) struct RenderArgs {
    /// Commands for ipvsadm, a part of keepalived.conf, or a unit of systemd
    #[arg(value_enum)]
    pub(crate) form: RenderForm,

    /// Configuration file; left out, the running engine is asked, with the endpoints that it has now. A unit is written from a
    /// file alone
    #[arg(long, short, value_name = "FILE", conflicts_with = "admin")]
    pub(crate) config: Option<PathBuf>,

    /// Admin address of the engine
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9000")]
    pub(crate) admin: String,

    /// Address of the services of listeners that listen on every address
    #[arg(long, value_name = "IP")]
    pub(crate) address: Option<IpAddr>,

    /// Program that the unit starts; left out, this one
    #[arg(long, value_name = "PATH")]
    pub(crate) program: Option<PathBuf>,

    /// Version of the systemd that the unit is for: before 253 a reload is not waited for
    #[arg(long, value_name = "N", default_value_t = 253)]
    pub(crate) systemd_version: u32,
}

/// For which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RenderForm {
    Ipvsadm,
    Keepalived,
    Systemd,
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

fn interval(text: &str) -> Result<Duration, String> {
    let time = config::parse_duration(text).map_err(|(cause, help)| match help {
        Some(help) => format!("{cause} ({help})"),
        None => cause,
    })?;
    if (Duration::from_millis(100)..=Duration::from_secs(3_600)).contains(&time) {
        Ok(time)
    } else {
        Err("expected 100ms to 1h".to_owned())
    }
}

fn node_id(text: &str) -> Result<String, String> {
    // Zones and nodes are named by one rule.
    match config::check_zone(text) {
        Ok(()) => Ok(text.to_owned()),
        Err((cause, Some(suggestion))) => Err(format!("{cause} ({suggestion})")),
        Err((cause, None)) => Err(cause),
    }
}
