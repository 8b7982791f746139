//! What load is put on, and which figure is hoped for?
//!
//! Only data: how a figure is taken is `measure`'s business.

use bench::traffic::Traffic;

use crate::contender::Contender;

/// A kind of traffic, with the targets that our gateway is held to.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// As given to `--scenario`.
    pub(crate) name: &'static str,
    /// One line for `--list`.
    pub(crate) about: &'static str,
    /// What goes over the connections.
    pub(crate) traffic: Traffic,
    /// Connections of the client at a time, at most one request at a time on each.
    pub(crate) connections: u32,
    /// Bytes in the body of every HTTP response.
    pub(crate) body_bytes: usize,
    /// What is read.
    pub(crate) figure: Figure,
    /// What our gateway must reach.
    pub(crate) targets: &'static [Target],
}

/// What a scenario reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    /// CPU time per request ÷ that of a reference that shares the core at the same moment.
    PairedCpu,
    /// Median latency with the core to itself, in microseconds.
    SoloLatency,
    /// Requests per CPU second of our gateway on two cores ÷ the same on one.
    Scaling,
    /// Growth of resident memory ÷ connections that were opened and then wait, in bytes.
    IdleMemory(WaitingFor),
}

/// What an idle connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitingFor {
    /// Nothing was asked yet.
    FirstRequest,
    /// One request was answered.
    NextRequest,
}

/// A bound on the median of the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    /// At most this many times the null relay.
    NullRelayAtMost(f64),
    /// At most this many times the better of nginx and HAProxy.
    BetterPeerAtMost(f64),
    /// At most this many times this contender.
    PeerAtMost(Contender, f64),
    /// At most this many times the same contender [without](Contender::without) what is measured.
    WithoutAtMost(f64),
    /// At least this part of what one core does with a CPU second.
    OneCoreAtLeast(f64),
    /// At most this many bytes.
    BytesAtMost(f64),
}

/// Every scenario, in the order in which they run.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "c64",
        about: "64 connections, 128 B bodies",
        traffic: Traffic::Kept,
        connections: 64,
        body_bytes: 128,
        figure: Figure::PairedCpu,
        targets: &[Target::NullRelayAtMost(1.20), Target::BetterPeerAtMost(0.80)],
    },
    Scenario {
        name: "c256",
        about: "256 connections, 128 B bodies",
        traffic: Traffic::Kept,
        connections: 256,
        body_bytes: 128,
        figure: Figure::PairedCpu,
        targets: &[Target::BetterPeerAtMost(0.70)],
    },
    Scenario {
        name: "body16k",
        about: "64 connections, 16 KiB bodies",
        traffic: Traffic::Kept,
        connections: 64,
        body_bytes: 16 * 1024,
        figure: Figure::PairedCpu,
        targets: &[Target::BetterPeerAtMost(0.80)],
    },
    Scenario {
        name: "c1",
        about: "1 connection, 128 B bodies",
        traffic: Traffic::Kept,
        connections: 1,
        body_bytes: 128,
        figure: Figure::PairedCpu,
        targets: &[],
    },
    Scenario {
        name: "c8",
        about: "8 connections, 128 B bodies",
        traffic: Traffic::Kept,
        connections: 8,
        body_bytes: 128,
        figure: Figure::PairedCpu,
        targets: &[],
    },
    Scenario {
        name: "body1m",
        about: "64 connections, 1 MiB bodies",
        traffic: Traffic::Kept,
        connections: 64,
        body_bytes: 1024 * 1024,
        figure: Figure::PairedCpu,
        targets: &[Target::BetterPeerAtMost(0.70)],
    },
    Scenario {
        name: "churn",
        about: "64 connections at a time, each for one request, 128 B bodies",
        traffic: Traffic::Churn,
        connections: 64,
        body_bytes: 128,
        figure: Figure::PairedCpu,
        targets: &[],
    },
    Scenario {
        name: "sessions",
        about: "64 connections, 128 B bodies, 4 endpoints, 9 of 10 requests of sessions that have begun",
        traffic: Traffic::Sessions,
        connections: 64,
        body_bytes: 128,
        figure: Figure::PairedCpu,
        targets: &[Target::WithoutAtMost(1.05)],
    },
    Scenario {
        name: "access-log",
        about: "64 connections, 128 B bodies; every request a line in a file (combined), and without",
        traffic: Traffic::Logged,
        connections: 64,
        body_bytes: 128,
        figure: Figure::PairedCpu,
        targets: &[Target::WithoutAtMost(1.10)],
    },
    Scenario {
        name: "tcp-ping",
        about: "64 connections, 64 B there and back, no HTTP",
        traffic: Traffic::PingPong,
        connections: 64,
        body_bytes: 0,
        figure: Figure::PairedCpu,
        targets: &[Target::BetterPeerAtMost(0.90)],
    },
    Scenario {
        name: "tcp-bulk",
        about: "4 connections, bytes from the origin to the client, no HTTP",
        traffic: Traffic::Bulk,
        connections: 4,
        body_bytes: 0,
        figure: Figure::PairedCpu,
        targets: &[Target::PeerAtMost(Contender::Haproxy, 1.00), Target::PeerAtMost(Contender::Nginx, 0.50)],
    },
    Scenario {
        name: "tls-full",
        about: "16 connections at a time, each with a full handshake and one request, ECDSA P-256, TLS 1.3",
        traffic: Traffic::PrivateFull,
        connections: 16,
        body_bytes: 128,
        figure: Figure::PairedCpu,
        targets: &[Target::BetterPeerAtMost(1.00)],
    },
    Scenario {
        name: "tls-resumed",
        about: "16 connections at a time, each resuming a session for one request, TLS 1.3",
        traffic: Traffic::PrivateResumed,
        connections: 16,
        body_bytes: 128,
        figure: Figure::PairedCpu,
        targets: &[Target::BetterPeerAtMost(1.00)],
    },
    Scenario {
        name: "tls-keepalive",
        about: "64 connections over TLS, 128 B bodies",
        traffic: Traffic::PrivateKept,
        connections: 64,
        body_bytes: 128,
        figure: Figure::PairedCpu,
        targets: &[Target::BetterPeerAtMost(0.90)],
    },
    Scenario {
        name: "tls-bulk",
        about: "16 connections over TLS, 1 MiB bodies",
        traffic: Traffic::PrivateKept,
        connections: 16,
        body_bytes: 1024 * 1024,
        figure: Figure::PairedCpu,
        targets: &[Target::BetterPeerAtMost(1.00)],
    },
    Scenario {
        name: "latency",
        about: "median latency at 1 connection, 128 B bodies, each alone on the core",
        traffic: Traffic::Kept,
        connections: 1,
        body_bytes: 128,
        figure: Figure::SoloLatency,
        targets: &[Target::BetterPeerAtMost(1.00)],
    },
    Scenario {
        name: "scaling",
        about: "our gateway on 2 cores and on 1, 64 connections, 128 B bodies; client and origin share the cores",
        traffic: Traffic::Kept,
        connections: 64,
        body_bytes: 128,
        figure: Figure::Scaling,
        targets: &[Target::OneCoreAtLeast(0.90)],
    },
    Scenario {
        name: "idle",
        about: "memory for each of 10,000 connections that were used once and are kept",
        traffic: Traffic::Kept,
        connections: 10_000,
        body_bytes: 128,
        figure: Figure::IdleMemory(WaitingFor::NextRequest),
        targets: &[Target::BytesAtMost(1024.0)],
    },
    Scenario {
        name: "unused",
        about: "memory for each of 10,000 connections that have asked for nothing yet",
        traffic: Traffic::Kept,
        connections: 10_000,
        body_bytes: 128,
        figure: Figure::IdleMemory(WaitingFor::FirstRequest),
        targets: &[],
    },
];
