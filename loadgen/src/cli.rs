//! What did the user ask for?
//!
//! Words to values, nothing else: past this module no argument can be wrong in itself.

pub(crate) mod fit;
pub(crate) mod transport;

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use runtime::DriverChoice;
use runtime::cores::{CORES_MAX, CoreCount};

use crate::cli::transport::TransportArgs;
use crate::find_max::Goal;
use crate::origin::listen::ListenAddress;
use crate::origin::stall::Stall;
use crate::protocol::http::expected::Sha256Sum;
use crate::protocol::http::template;
use crate::protocol::message::MESSAGE_BYTES_MAX;
use crate::schedule::rate_plan::RatePlan;
use crate::target::{Field, Method, Target};
use crate::units::{parse_duration, parse_positive_duration, parse_size};

/// Puts load on an HTTP, WebSocket or TCP server, checks every response, and says how long they took.
///
/// Exit code: 0 when every response was right and --target kept, 1 when not, 2 when the load could not be started.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send messages or streams over plain TCP, or open and close connections
    ///
    /// The same as `loadgen tcp://ADDR`. Exit code: 0 when everything came back right and --target was kept, 1 when not,
    /// 2 when the load could not be started.
    Tcp(Box<TcpArgs>),
    /// Serve HTTP/1.1 responses of one size, WebSocket echo, or plain TCP: something to put load on
    Origin(OriginArgs),
    /// Start the gateway with each of several core counts, and say how it grows and what limits it
    Scale(ScaleArgs),
    /// Name the profiles that come with loadgen, or show one
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// Run a program that ends with this process's parent
    #[command(hide = true)]
    Tether(TetherArgs),
    /// Write what a shell completes commands and flags by
    #[command(hide = true)]
    Completions {
        /// For which shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
        /// What the program is called where it is installed
        #[arg(long = "as", value_name = "NAME", default_value = "loadgen")]
        name: String,
    },
    /// Write manual pages, one for each command
    #[command(hide = true)]
    Man {
        /// Directory, which is there already
        directory: PathBuf,
        /// What the program is called where it is installed
        #[arg(long = "as", value_name = "NAME", default_value = "loadgen")]
        name: String,
    },
    /// Say what changed between two runs, and whether it is more than noise
    Compare(CompareArgs),
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    /// Names and what they are about
    List,
    /// The file of a shipped profile, to be saved and changed
    Show {
        /// A name from the list
        name: String,
    },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct LoadArgs {
    /// Where to send requests: `http[s]://HOST[:PORT][/PATH][?QUERY]`; or messages:
    /// `ws[s]://HOST[:PORT][/PATH][?QUERY]`, `tcp://HOST:PORT`
    #[arg(required = true, value_name = "URL")]
    pub(crate) url: Option<Target>,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    #[command(flatten)]
    pub(crate) messages: MessageArgs,
    /// Send messages as text, not binary (ws://)
    #[arg(long)]
    pub(crate) text: bool,
    /// Request method
    #[arg(short = 'm', long, default_value = "GET")]
    pub(crate) method: Method,
    /// A request field; may be repeated. Values, --body and the URL's path may hold placeholders: {{seq}} and
    /// {{connection}} (numbers that no other request or connection of the run has), {{random N..M}}, {{uuid}}
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<Field>,
    /// Request body
    #[arg(long, value_name = "TEXT", value_parser = parse_template, conflicts_with = "body_file")]
    pub(crate) body: Option<String>,
    /// File that holds the request body, sent as it is
    #[arg(long, value_name = "FILE")]
    pub(crate) body_file: Option<PathBuf>,
    /// Request body of so many bytes, up to 256MiB
    #[arg(long, value_name = "BYTES", value_parser = parse_body_size, conflicts_with_all = ["body", "body_file"])]
    pub(crate) body_size: Option<u64>,
    /// File of requests, one JSON object a line, chosen by weight; what a line leaves out is as on the command line.
    /// Keys: name, weight, method, path, headers, body, body_file, body_base64, expect_status, expect_header,
    /// expect_body_sha256, expect_body_file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["method", "body", "body_file", "body_size"])]
    pub(crate) requests_file: Option<PathBuf>,
    /// Send the requests of the file one after the other, again and again, whatever their weights
    #[arg(long, requires = "requests_file")]
    pub(crate) in_order: bool,
    /// Statuses that count as right, separated by commas
    #[arg(long, default_value = "200", value_name = "STATUS", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(200..=599))]
    pub(crate) expect_status: Vec<u16>,
    /// A field that every right answer has, exactly so; may be repeated
    #[arg(long = "expect-header", value_name = "NAME: VALUE", value_parser = Field::of_answer)]
    pub(crate) expect_headers: Vec<Field>,
    /// SHA-256 of the body that every right answer has
    #[arg(long, value_name = "HEX", conflicts_with = "expect_body_file")]
    pub(crate) expect_body_sha256: Option<Sha256Sum>,
    /// File that holds the body that every right answer has
    #[arg(long, value_name = "FILE")]
    pub(crate) expect_body_file: Option<PathBuf>,
    /// Give each request an id in X-Loadgen-Id that its answer must repeat, and ask the origin in the end how often
    /// it was sent each; any that was sent twice fails the run. For `loadgen origin --ids`, also behind a gateway
    #[arg(long, conflicts_with = "find_max")]
    pub(crate) ids: bool,
    /// Where to ask, when it is not by the URL's host and port; may be repeated for several origins
    #[arg(long = "ids-at", value_name = "URL", requires = "ids")]
    pub(crate) ids_at: Vec<Target>,
    /// Send up to N requests that are due over one connection at once; the next when all of them are answered. Each
    /// has a time and an account of its own. A batch ends early at 32 KiB
    #[arg(long, value_name = "N", default_value = "1", conflicts_with = "no_keepalive", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) pipeline: u16,
}

/// How much, for how long, and what to write about it, whatever is sent.
#[derive(Clone, Debug, Args)]
pub(crate) struct CommonArgs {
    /// Take flags from a profile; those on the command line come after them and count: a name from loadgen profile list,
    /// or a TOML file whose keys are flags
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) profile: Option<String>,
    /// Connections held open, over all threads
    #[arg(short = 'c', long, default_value = "64", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX))]
    pub(crate) connections: u32,
    /// Threads, or auto: one for each usable CPU
    #[arg(short = 't', long, default_value = "auto", value_name = "N|auto")]
    pub(crate) threads: CoreCount,
    /// How long to send [default: as long as --rate changes, else 10s; without end when -n is given]
    #[arg(short = 'd', long, value_name = "TIME", value_parser = parse_positive_duration)]
    pub(crate) duration: Option<Duration>,
    /// Stop after this many requests, messages or connections, or, without -d, when no connection could be had for as
    /// long as --timeout
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) requests: Option<u64>,
    /// Open loop: this many requests per second in all, whether or not answers come back in time. `1k..50k/30s` is a
    /// ramp over 30 s, `1k/10s,5k/10s,20k/10s` are steps; the last rate holds until the end
    #[arg(long, value_name = "R[..R][/TIME],…")]
    pub(crate) rate: Option<RatePlan>,
    /// Search for the highest rate that keeps a latency, such as p99=5ms: doubled from --rate [default: 100] until it is
    /// missed twice in a row, then halved between, in at most 32 tries of --duration [default: 5s] each
    #[arg(long, value_name = "PERCENTILE=TIME", conflicts_with_all = ["requests", "hlog"])]
    pub(crate) find_max: Option<Goal>,
    /// Spacing of an open loop's requests
    #[arg(long, value_enum, default_value = "constant", requires = "rate")]
    pub(crate) arrival: ArrivalArg,
    /// A latency to keep, such as 'p95 < 600ms'; missed, the exit code is 1
    #[arg(long, value_name = "PERCENTILE<TIME", value_parser = Goal::parse_target)]
    pub(crate) target: Option<Goal>,
    /// Longest wait for a connection, for a complete response, or for the next byte of a stream
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = parse_positive_duration)]
    pub(crate) timeout: Duration,
    /// Longest wait for outstanding responses after the end
    #[arg(long, default_value = "2s", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) grace: Duration,
    /// Open a new connection for every request or message, and tell an HTTP server so
    #[arg(long, conflicts_with = "requests_per_connection")]
    pub(crate) no_keepalive: bool,
    /// Close each connection after so many answers, and open a new one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) requests_per_connection: Option<u64>,
    /// Write the latency distribution (.hgrm text)
    #[arg(long, value_name = "FILE")]
    pub(crate) hdr: Option<PathBuf>,
    /// Write an interval log while the run goes on: one latency histogram a second (.hlog)
    #[arg(long, value_name = "FILE")]
    pub(crate) hlog: Option<PathBuf>,
    /// Write a report with charts that opens in any browser, offline
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Write the summary as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Say how it goes in plain lines, as when standard error is no terminal, instead of a live view
    #[arg(long, alias = "no-live")]
    pub(crate) plain: bool,
    /// Start of the random numbers, to repeat a run's arrivals
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Never sleep: truer times, at the price of all of each thread's CPU
    #[arg(long)]
    pub(crate) spin: bool,
    /// How to talk to the kernel: auto is uring, which falls back to epoll where io_uring is refused
    #[arg(long, default_value = "auto", value_name = "auto|uring|epoll")]
    pub(crate) driver: DriverChoice,
    #[command(flatten)]
    pub(crate) transport: TransportArgs,
}

/// A larger body is better read from a file, where its size is no typing error.
const BODY_BYTES_MAX: u64 = 256 * 1_024 * 1_024;

fn parse_body_size(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text)?;
    if bytes > BODY_BYTES_MAX {
        return Err(format!("at most {BODY_BYTES_MAX} bytes (256MiB) are made up; --body-file takes more"));
    }
    Ok(bytes)
}

/// A text whose placeholders are all known.
fn parse_template(text: &str) -> Result<String, String> {
    template::parse(text).map(|_| text.to_owned())
}

impl Cli {
    /// The command line's rules. Given twice, a flag counts the second time: so that it can follow a profile's.
    pub(crate) fn rules() -> clap::Command {
        Self::command().args_override_self(true)
    }

    /// Reads a whole command line, the program's name first.
    ///
    /// # Errors
    /// It breaks a rule.
    pub(crate) fn read(args: &[OsString]) -> Result<Self, clap::Error> {
        let matches = Self::rules().try_get_matches_from(args)?;
        let cli = Self::from_arg_matches(&matches)?;
        fit::check(&matches, &cli).map_err(|text| Self::rules().error(ErrorKind::ArgumentConflict, text))?;
        Ok(cli)
    }
}

/// What is sent where it is no HTTP request.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct MessageArgs {
    /// What a connection is for (TCP) [default: ping-pong]
    #[arg(long, value_enum, value_name = "MODE")]
    pub(crate) mode: Option<ModeArg>,
    /// Bytes in each message (ping-pong, ws://) [default: 128]
    #[arg(long, value_name = "BYTES", value_parser = parse_message_size)]
    pub(crate) size: Option<usize>,
    /// Who sends (--mode stream) [default: send]
    #[arg(long, value_enum, value_name = "DIRECTION")]
    pub(crate) direction: Option<DirectionArg>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct TcpArgs {
    /// Where to connect: `HOST:PORT`
    #[arg(value_name = "ADDR", value_parser = Target::parse_tcp)]
    pub(crate) address: Target,
    #[command(flatten)]
    pub(crate) messages: MessageArgs,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// What a TCP connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// Send a message and expect the same bytes back, again and again
    PingPong,
    /// Let bytes go one way as fast as they can, until the end
    Stream,
    /// Open it and close it: what is measured is how long it takes to be set up
    Connect,
}

/// Which way a stream goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DirectionArg {
    /// To the server
    Send,
    /// From the server
    Receive,
}

fn parse_message_size(text: &str) -> Result<usize, String> {
    match parse_size(text)? {
        0 => Err("an empty message has nothing to compare; use at least 1".into()),
        size if size > MESSAGE_BYTES_MAX => Err("a message is held in memory; use at most 256MiB".into()),
        size => Ok(size as usize),
    }
}

/// More would exceed the ports of one source address.
const CONNECTIONS_MAX: i64 = 60_000;

#[derive(Clone, Debug, Args)]
pub(crate) struct OriginArgs {
    /// Address to listen on, where port 0 lets the kernel choose, or the path of a Unix socket
    #[arg(long, value_name = "ADDR:PORT|unix:PATH", default_value = "127.0.0.1:0")]
    pub(crate) listen: ListenAddress,
    /// Speak HTTPS, with a certificate made at the start unless one is given
    #[arg(long)]
    pub(crate) tls: bool,
    /// PEM file with the certificate of --tls, and those that vouch for it
    #[arg(long, value_name = "FILE", requires = "key", requires = "tls")]
    pub(crate) cert: Option<PathBuf>,
    /// PEM file with its private key
    #[arg(long, value_name = "FILE", requires = "cert", requires = "tls")]
    pub(crate) key: Option<PathBuf>,
    /// What to do with a connection
    #[arg(long, value_enum, default_value = "http")]
    pub(crate) serve: ServeArg,
    /// Bytes in each response body
    #[arg(long, default_value = "128", value_name = "BYTES", value_parser = parse_size)]
    pub(crate) body: u64,
    /// Wait before each response, and before anything is echoed or poured out
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) delay: Duration,
    /// Answer nothing in the last TIME of every EVERY since the start, such as 1s,200ms
    #[arg(long, value_name = "EVERY,TIME")]
    pub(crate) stall: Option<Stall>,
    /// Repeat each request's X-Loadgen-Id in its answer and count how often each came, for `loadgen --ids`; answers
    /// `GET /loadgen-ids?run=RUN` itself. The ids of 64 runs, up to 268,435,456 each and 256 MiB a thread, are kept
    #[arg(long)]
    pub(crate) ids: bool,
    /// Count them in FILE, a line for each that came: the account outlives an origin that is killed, and origins that
    /// share a file, on one machine, have one account
    #[arg(long, value_name = "FILE", requires = "ids")]
    pub(crate) ids_file: Option<PathBuf>,
    /// Threads, or auto: one for each usable CPU
    #[arg(short = 't', long, default_value = "1", value_name = "N|auto")]
    pub(crate) threads: CoreCount,
    /// How to talk to the kernel: auto is uring, which falls back to epoll where io_uring is refused
    #[arg(long, default_value = "auto", value_name = "auto|uring|epoll")]
    pub(crate) driver: DriverChoice,
}

/// Exit code: 0 when B is the same or better, 1 when it is clearly worse, 2 when they cannot be compared.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompareArgs {
    /// The run before the change, as `--json` wrote it
    #[arg(value_name = "A.json")]
    pub(crate) before: PathBuf,
    /// The run after it
    #[arg(value_name = "B.json")]
    pub(crate) after: PathBuf,
    /// A change smaller than this many percent does not matter, even when it is certain
    #[arg(long, default_value = "5", value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) tolerance: u32,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ScaleArgs {
    /// Core counts to compare, such as 1,2,4; a fit needs three
    #[arg(long, value_name = "N,N[,N...]")]
    pub(crate) cores: CoreCounts,
    /// The gateway's program [default: engine, beside this program]
    #[arg(long, value_name = "PATH")]
    pub(crate) engine: Option<PathBuf>,
    /// Times each core count is measured
    #[arg(long, default_value = "5", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) rounds: u32,
    /// Seconds of one measurement
    #[arg(long, default_value = "3", value_name = "S", value_parser = clap::value_parser!(u32).range(1..=600))]
    pub(crate) seconds: u32,
    /// Connections held open, whatever the core count [default: 16 for each of the most cores, at least 64]
    #[arg(short = 'c', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX))]
    pub(crate) connections: Option<u32>,
    /// Write the report as JSON, with every round
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct TetherArgs {
    /// Process id of the parent
    #[arg(long)]
    pub(crate) parent: i32,
    /// CPUs to run on
    #[arg(long, value_delimiter = ',')]
    pub(crate) cpus: Vec<usize>,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<PathBuf>,
}

/// Two or more distinct core counts, in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CoreCounts(Vec<u32>);

/// More would take an hour, and no curve has so many bends.
const CORE_COUNTS_MAX: usize = 32;

impl CoreCounts {
    /// The counts, ascending.
    pub(crate) fn counts(&self) -> &[u32] {
        &self.0
    }

    /// The largest of them.
    pub(crate) fn max(&self) -> u32 {
        self.0.last().copied().unwrap_or(1)
    }
}

impl FromStr for CoreCounts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut counts = Vec::new();
        for part in text.split(',') {
            match part.parse::<u32>() {
                Ok(count) if (1..=CORES_MAX as u32).contains(&count) => counts.push(count),
                _ => {
                    return Err(format!(
                        "'{part}' is not a number of cores: use 1 to {CORES_MAX}, such as 1,2,4"
                    ));
                }
            }
        }
        counts.sort_unstable();
        if let Some(twice) = counts.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("{} is named twice: --rounds says how often each is measured", twice[0]));
        }
        match counts.len() {
            0 | 1 => {
                Err("one core count has nothing to be compared with: name at least two, such as 1,2".into())
            }
            2..=CORE_COUNTS_MAX => Ok(Self(counts)),
            _ => Err(format!("more than {CORE_COUNTS_MAX} core counts: name fewer")),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ArrivalArg {
    /// Evenly spaced
    Constant,
    /// Exponential gaps, as from many independent users
    Poisson,
}

/// What an origin does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServeArg {
    /// Answer HTTP/1.1 requests; a client that asks for WebSocket gets its messages back
    Http,
    /// Send every byte back
    Echo,
    /// Receive and forget, and close once the client is done
    Sink,
    /// Send as fast as the client takes it
    Source,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::read(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_url_alone_is_enough() {
        let cli = parse("loadgen http://127.0.0.1:8080/").expect("a plain run");
        assert!(cli.command.is_none());
        assert_eq!((cli.load.common.connections, cli.load.common.threads), (64, CoreCount::Auto));
        assert_eq!(
            (cli.load.common.timeout, cli.load.common.grace),
            (Duration::from_secs(30), Duration::from_secs(2))
        );
        assert_eq!(cli.load.expect_status, [200]);
    }

    #[test]
    fn origin_stands_beside_the_url() {
        let cli = parse("loadgen origin --listen 127.0.0.1:0 --body 16KiB --delay 5ms").expect("an origin");
        let Some(Command::Origin(origin)) = cli.command else { panic!("no origin: {cli:?}") };
        assert_eq!((origin.body, origin.delay), (16_384, Duration::from_millis(5)));
        assert!(cli.load.url.is_none());
    }

    #[test]
    fn tcp_is_a_command_and_a_url() {
        let url = parse("loadgen tcp://h:1 --mode stream --direction receive -c 2").expect("a stream").load;
        let Some(Command::Tcp(tcp)) =
            parse("loadgen tcp h:1 --mode stream --direction receive -c 2").expect("a stream").command
        else {
            panic!("no tcp")
        };
        assert_eq!(url.url.as_ref(), Some(&tcp.address));
        assert_eq!((url.messages.mode, url.messages.direction), (tcp.messages.mode, tcp.messages.direction));
        assert_eq!((url.common.connections, tcp.common.connections), (2, 2));
    }

    #[test]
    fn mistakes_name_the_argument_and_the_way_out() {
        let mistakes = [
            ("loadgen", "<URL>"),
            ("loadgen http://h/ --size 10", "--size does not go with an http:// URL"),
            ("loadgen ws://h/ -m POST", "--method does not go with a ws:// URL"),
            ("loadgen ws://h/ --mode connect", "--mode does not go with a ws:// URL"),
            ("loadgen tcp://h:1 -H a:b", "--header does not go with a tcp:// URL"),
            ("loadgen tcp://h:1 --text", "--text does not go with a tcp:// URL"),
            ("loadgen tcp://h", "no port"),
            ("loadgen tcp://h:1/path", "nothing but tcp://HOST:PORT"),
            ("loadgen tcp http://h/", "expected HOST:PORT"),
            ("loadgen tcp h:1 --size 0", "use at least 1"),
            ("loadgen tcp h:1 --size 1GiB", "use at most 256MiB"),
            ("loadgen tcp h:1 --mode chat", "ping-pong"),
            ("loadgen tcp h:1 --direction send", "add --mode stream"),
            ("loadgen tcp h:1 --mode connect --size 10", "sends nothing"),
            ("loadgen tcp h:1 --mode stream --size 10", "no messages"),
            ("loadgen tcp h:1 --mode stream --rate 10", "--rate"),
            ("loadgen tcp h:1 --mode stream --find-max p99=1ms", "--find-max"),
            ("loadgen tcp h:1 --mode stream --hdr x", "--hdr"),
            ("loadgen tcp h:1 --mode stream --hlog x", "--hlog"),
            ("loadgen tcp h:1 --mode stream -n 1", "--requests"),
            ("loadgen tcp h:1 --mode stream --target p95<5ms", "--target"),
            ("loadgen tcp h:1 --expect-status 201", "--expect-status"),
            ("loadgen tcp h:1 --mode connect --no-keepalive", "each connection serves once"),
            ("loadgen tcp h:1 --no-keepalive --requests-per-connection 2", "--requests-per-connection"),
            ("loadgen tcp h:1 --pipeline 2", "--pipeline"),
            ("loadgen ws://h/ --pipeline 2", "--pipeline does not go with a ws:// URL"),
            ("loadgen http://h/ --no-keepalive --pipeline 2", "--no-keepalive"),
            ("loadgen ftp://h/", "use http://"),
            ("loadgen https://h/ --tls 1.1", "possible values: 1.2, 1.3"),
            ("loadgen https://h/ --ca f --insecure", "--insecure"),
            ("loadgen origin --tls --cert f", "--key"),
            ("loadgen origin --cert f --key f", "--tls"),
            ("loadgen origin --ids-file f", "--ids"),
            ("loadgen origin --listen unix:", "a path is missing"),
            ("loadgen http://h/ -c 0", "--connections"),
            ("loadgen http://h/ -t 1.5", "a positive number or 'auto'"),
            ("loadgen http://h/ -d 10", "with a unit"),
            ("loadgen http://h/ -d 0s", "longer than zero"),
            ("loadgen http://h/ -n 0", "--requests"),
            ("loadgen http://h/ --rate 0", "requests per second"),
            ("loadgen http://h/ --rate 1k..5k", "a ramp needs a time; write 1k..5k/30s"),
            ("loadgen http://h/ --rate 1k,5k/3s", "in '1k': only the last step"),
            ("loadgen http://h/ --find-max 5ms", "such as p99=5ms"),
            ("loadgen http://h/ --find-max p99=5ms -n 10", "--requests"),
            ("loadgen http://h/ --target p95=5ms", "such as 'p95 < 600ms'"),
            ("loadgen http://h/ --body-size 1 --body x", "--body"),
            ("loadgen http://h/ --body-size 1 --requests-file x", "--requests-file"),
            ("loadgen http://h/ --body-size 257MiB", "--body-file takes more"),
            ("loadgen profile", "list"),
            ("loadgen http://h/ --arrival poisson", "--rate"),
            ("loadgen http://h/ -H nonsense", "Name: value"),
            ("loadgen http://h/ --body x --body-file y", "--body-file"),
            ("loadgen http://h/ --expect-status 99", "--expect-status"),
            ("loadgen http://h/ --expect-header x", "Name: value"),
            ("loadgen http://h/ --expect-body-sha256 abc", "64 hexadecimal digits"),
            ("loadgen http://h/ --body {{sq}}", "known are {{seq}}"),
            ("loadgen http://h/{{sq}}", "known are {{seq}}"),
            ("loadgen http://h/ --requests-file f -m POST", "--method"),
            ("loadgen http://h/ --in-order", "--requests-file"),
            ("loadgen http://h/ --pipeline 0", "1..=256"),
            ("loadgen http://h/ --pipeline 2 --no-keepalive", "--no-keepalive"),
            ("loadgen http://h/ --requests-per-connection 0", "--requests-per-connection"),
            ("loadgen http://h/ --ids-at http://o/", "--ids"),
            ("loadgen http://h/ --ids --find-max p99=5ms", "--find-max"),
            ("loadgen http://h/ origin", "origin"),
            ("loadgen origin http://h/", "http://h/"),
            ("loadgen scale", "--cores"),
            ("loadgen scale --cores 2", "at least two"),
            ("loadgen scale --cores 1,x", "'x' is not a number of cores"),
            ("loadgen scale --cores 0,1", "'0' is not a number of cores"),
            ("loadgen scale --cores 1,2,1", "1 is named twice"),
            ("loadgen scale --cores 1,2 --rounds 0", "--rounds"),
            ("loadgen scale --cores 1,2 --seconds 1.5", "--seconds"),
            ("loadgen scale --cores 1,2 -c 0", "--connections"),
            ("loadgen origin --listen nowhere", "--listen"),
            ("loadgen origin --stall 200ms,1s", "must be shorter than EVERY"),
        ];
        for (line, hint) in mistakes {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(hint), "{line}: {error}");
        }
    }
}
