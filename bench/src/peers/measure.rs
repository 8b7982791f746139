//! How is a figure taken?
//!
//! Rounds are interleaved: every contender has its turn before any has its second, so that a machine that changes
//! speed changes it for all. It never prints and never judges.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bench::client::{Client, Load, Report};
use bench::origin::Origin;
use bench::process::CoreList;

use crate::certificate::PemFiles;
use crate::contender::{Contender, Place, Server};
use crate::idle;
use crate::scenario::{Figure, Scenario};

/// Where contenders run.
const SERVER_CORE: CoreList = CoreList("0");
/// Where clients and origins run.
const CLIENT_CORE: CoreList = CoreList("1");
/// Where all of them run when scaling is measured.
const BOTH_CORES: CoreList = CoreList("0,1");
/// Fills connection pools and caches before the first round.
const WARM_UP: Duration = Duration::from_millis(300);

/// What is common to every figure of one run.
pub(crate) struct Bench<'a> {
    /// Directory of the programs that are not installed.
    pub(crate) binaries: &'a Path,
    /// Directory for configurations, logs and reports.
    pub(crate) dir: &'a Path,
    /// What shares the core with each candidate.
    pub(crate) reference: Contender,
    /// Turns of every contender.
    pub(crate) rounds: u32,
    /// Length of one turn.
    pub(crate) duration: Duration,
}

/// All rounds of one contender.
pub(crate) struct Row {
    /// Who was measured.
    pub(crate) contender: Contender,
    /// One for each round that ended well enough to be read.
    pub(crate) samples: Vec<Sample>,
    /// Why the row does not count.
    pub(crate) failure: Option<String>,
}

/// One round of one contender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// In the unit of the scenario's [`Figure`].
    pub(crate) figure: f64,
    /// The contender under load, if that was measured; on two cores when scaling is.
    pub(crate) candidate: Option<Side>,
    /// What it was compared with, if anything ran beside it; on one core when scaling is measured.
    pub(crate) reference: Option<Side>,
}

/// What one server used and its client saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Side {
    /// CPU time of the server's processes.
    pub(crate) cpu: Duration,
    /// What its client saw.
    pub(crate) client: Report,
}

impl Side {
    /// CPU time per request, or what else is counted, in microseconds.
    pub(crate) fn cpu_us_per_request(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.client.completed as f64
    }
}

impl Bench<'_> {
    /// Takes the figure of `scenario` for each of `contenders`. `progress` is told before every turn.
    ///
    /// # Errors
    /// When the origin or the reference cannot be started. What befalls a contender fails its own row only.
    pub(crate) fn run(
        &self,
        scenario: &Scenario,
        contenders: &[Contender],
        progress: &dyn Fn(u32, Contender),
    ) -> anyhow::Result<Vec<Row>> {
        let origin_cores = if scenario.figure == Figure::Scaling { BOTH_CORES } else { CLIENT_CORE };
        let origin =
            Origin::start(self.binaries, self.dir, origin_cores, scenario.traffic, scenario.body_bytes)
                .context("the origin does not run")?;
        let private = PemFiles::create(self.dir)?;
        let place = Place {
            binaries: self.binaries,
            dir: self.dir,
            origin: origin.addr,
            traffic: scenario.traffic,
            body_bytes: scenario.body_bytes,
            connections: scenario.connections,
            private: Some(&private),
        };
        let mut stands = Vec::new();
        for &contender in contenders {
            stands.push(Stand::open(self, scenario, contender, &place));
        }
        let reference = match scenario.figure {
            Figure::PairedCpu => {
                let server = Server::start(self.reference_for(scenario), SERVER_CORE, &place)
                    .context("the reference does not run")?;
                self.warm_up(scenario, &server)?;
                Some(server)
            }
            Figure::SoloLatency | Figure::Scaling | Figure::IdleMemory(_) => None,
        };
        for round in 0..self.rounds {
            for stand in &mut stands {
                progress(round, stand.row.contender);
                stand.take_turn(self, scenario, &place, reference.as_ref(), round);
            }
        }
        Ok(stands.into_iter().map(|stand| stand.row).collect())
    }

    /// The reference, or where that speaks no TLS, nginx.
    pub(crate) fn reference_for(&self, scenario: &Scenario) -> Contender {
        let is_left_to_us = self.reference == Contender::Null;
        if is_left_to_us && scenario.traffic.is_private() { Contender::Nginx } else { self.reference }
    }

    fn load(&self, scenario: &Scenario) -> Load {
        Load {
            traffic: scenario.traffic,
            body_bytes: scenario.body_bytes,
            connections: scenario.connections,
            threads: 1,
            duration: self.duration,
            driver: None,
        }
    }

    fn warm_up(&self, scenario: &Scenario, server: &Server) -> anyhow::Result<()> {
        let load = Load { duration: WARM_UP, ..self.load(scenario) };
        Client::start(self.binaries, self.dir, CLIENT_CORE, server.addr, load)?.finish()?;
        Ok(())
    }

    /// Loads one server alone.
    fn measure_solo(&self, load: Load, client_cores: CoreList, server: &Server) -> anyhow::Result<Side> {
        let cpu_before = server.child.cpu_time()?;
        let client = Client::start(self.binaries, self.dir, client_cores, server.addr, load)?.finish()?;
        side(server.child.cpu_time()? - cpu_before, client)
    }

    /// Loads two servers at the same moment on the same core, the one named first also started first.
    fn measure_pair(&self, load: Load, pair: [&Server; 2]) -> anyhow::Result<[Side; 2]> {
        let cpu_before = [pair[0].child.cpu_time()?, pair[1].child.cpu_time()?];
        let start = |server: &Server| Client::start(self.binaries, self.dir, CLIENT_CORE, server.addr, load);
        let clients = [start(pair[0])?, start(pair[1])?];
        let [first, second] = clients.map(Client::finish);
        let cpu_after = [pair[0].child.cpu_time()?, pair[1].child.cpu_time()?];
        Ok([side(cpu_after[0] - cpu_before[0], first?)?, side(cpu_after[1] - cpu_before[1], second?)?])
    }
}

fn side(cpu: Duration, client: Report) -> anyhow::Result<Side> {
    ensure!(client.completed > 0, "no request was answered");
    Ok(Side { cpu, client })
}

/// A contender's servers, ready for their turn, and what they have shown.
struct Stand {
    /// One; when scaling is measured, on one core and on two; none when memory is, since only a new process has
    /// taken none yet. Empty once the row has failed.
    servers: Vec<Server>,
    row: Row,
}

impl Stand {
    fn open(bench: &Bench<'_>, scenario: &Scenario, contender: Contender, place: &Place<'_>) -> Self {
        let core_lists: &[CoreList] = match scenario.figure {
            Figure::PairedCpu | Figure::SoloLatency => &[SERVER_CORE],
            Figure::Scaling => &[SERVER_CORE, BOTH_CORES],
            Figure::IdleMemory(_) => &[],
        };
        let open = |cores: &CoreList| -> anyhow::Result<Server> {
            let server = Server::start(contender, *cores, place)?;
            bench.warm_up(scenario, &server)?;
            Ok(server)
        };
        let servers: anyhow::Result<Vec<Server>> = core_lists.iter().map(open).collect();
        let mut row = Row { contender, samples: Vec::new(), failure: None };
        let servers = servers.unwrap_or_else(|error| {
            row.failure = Some(format!("{error:#}"));
            Vec::new()
        });
        Self { servers, row }
    }

    fn take_turn(
        &mut self,
        bench: &Bench<'_>,
        scenario: &Scenario,
        place: &Place<'_>,
        reference: Option<&Server>,
        round: u32,
    ) {
        if self.row.failure.is_some() {
            return;
        }
        match self.sample(bench, scenario, place, reference, round) {
            Ok(sample) => {
                let sides = [sample.candidate, sample.reference];
                let errors: u64 = sides.iter().flatten().map(|side| side.client.errors).sum();
                if errors > 0 {
                    self.row.failure = Some(format!("{errors} requests failed in round {}", round + 1));
                }
                self.row.samples.push(sample);
            }
            Err(error) => self.row.failure = Some(format!("round {}: {error:#}", round + 1)),
        }
        if self.row.failure.is_some() {
            self.servers.clear();
        }
    }

    fn sample(
        &self,
        bench: &Bench<'_>,
        scenario: &Scenario,
        place: &Place<'_>,
        reference: Option<&Server>,
        round: u32,
    ) -> anyhow::Result<Sample> {
        let load = bench.load(scenario);
        // Whoever starts first has the core to itself for a moment: they take turns.
        let swapped = round % 2 == 1;
        match (scenario.figure, self.servers.as_slice(), reference) {
            (Figure::PairedCpu, [server], Some(reference)) => {
                let pair = if swapped { [reference, server] } else { [server, reference] };
                let mut sides = bench.measure_pair(load, pair)?;
                if swapped {
                    sides.reverse();
                }
                let [candidate, reference] = sides;
                let figure = candidate.cpu_us_per_request() / reference.cpu_us_per_request();
                Ok(Sample { figure, candidate: Some(candidate), reference: Some(reference) })
            }
            (Figure::SoloLatency, [server], None) => {
                let candidate = bench.measure_solo(load, CLIENT_CORE, server)?;
                let latency = candidate.client.latency.context("the client measured no latency")?;
                let figure = latency.p50_ns as f64 / 1e3;
                Ok(Sample { figure, candidate: Some(candidate), reference: None })
            }
            (Figure::Scaling, [one_core, two_cores], None) => {
                let load = Load { threads: 2, ..load };
                let mut order = [one_core, two_cores];
                if swapped {
                    order.reverse();
                }
                let first = bench.measure_solo(load, BOTH_CORES, order[0])?;
                let second = bench.measure_solo(load, BOTH_CORES, order[1])?;
                let (one, two) = if swapped { (second, first) } else { (first, second) };
                let figure = one.cpu_us_per_request() / two.cpu_us_per_request();
                Ok(Sample { figure, candidate: Some(two), reference: Some(one) })
            }
            (Figure::IdleMemory(waiting_for), [], None) => {
                let server = Server::start(self.row.contender, SERVER_CORE, place)?;
                let figure = idle::bytes_per_connection(&server, place, waiting_for)?;
                Ok(Sample { figure, candidate: None, reference: None })
            }
            (figure, servers, _) => unreachable!("{figure:?} with {} servers", servers.len()),
        }
    }
}
