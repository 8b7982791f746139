//! Which scenario does a seed stand for? All that peers will do, and the configuration they do it to.
//!
//! Never looks at the engine: a scenario is the same whatever the engine does with it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::dice::Dice;
use crate::hostile::Hostile;
use crate::plan::{
    After, AnswerPlan, BROKEN_HEADS, BodyPlan, Character, ClientEnd, ConnectionPlan, Defect, Destination,
    Fate, Framing, Limits, Method, Network, Pace, Reading, RequestId, RequestPlan, Respond, Scenario, Stop,
    Times, Timing, UpstreamPlan,
};

/// Largest body, in bytes.
const BODY_BYTES_MAX: u64 = 300_000;
/// Where the engine listens, and clients' and origins' addresses begin.
const ENGINE: [u8; 4] = [10, 0, 0, 1];
const ORIGINS: [u8; 4] = [10, 0, 2, 1];

impl Scenario {
    /// The scenario of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let character = dice.pick(&[
            Character::Clean,
            Character::Clean,
            Character::Rude,
            Character::Rude,
            Character::Rude,
            Character::Stormy,
            Character::Wild,
            Character::Wild,
        ]);
        let network = match (character.has_network_faults(), dice.chance(50)) {
            (false, true) => Network::Calm,
            (false, false) => Network::Jittery,
            (true, true) => Network::Rough,
            (true, false) => Network::Swarm,
        };
        let times = times(&mut dice);
        let listeners = (0..dice.between(1, 2)).map(|nth| address(ENGINE, 8000 + nth as u16)).collect();
        let mut first = 0;
        let upstreams = std::iter::repeat_with(|| {
            let count = dice.between(1, 3) as usize;
            first += count;
            let numbers = first - count..first;
            UpstreamPlan {
                first: first - count,
                endpoints: numbers.map(|n| address(ORIGINS, 9000 + n as u16)).collect(),
            }
        })
        .take(2 - usize::from(seed.is_multiple_of(3)))
        .collect();
        let mut scenario = Self {
            seed,
            character,
            network,
            cores: dice.between(1, 2) as usize,
            config: String::new(),
            times,
            listeners,
            upstreams,
            connections: Vec::new(),
            probes_from: 0,
            respond: respond(&mut dice),
            total_timeout: (character.has_rude_peers() && dice.chance(30))
                .then(|| dice.millis(3_000, 15_000)),
            limits: Limits {
                body_bytes: (character.has_rude_peers() && dice.chance(20)).then(|| dice.size(60_000)),
                // Probes ask each endpoint once.
                requests: dice.chance(20).then(|| dice.between(6, 8) as usize),
            },
            descriptors_max: if character.has_network_faults() && dice.chance(30) { 24 } else { 65_536 },
        };
        scenario.config = config(&scenario, &mut dice);
        let count = dice.between(1, 10) as usize;
        scenario.connections = (0..count).map(|number| connection(&scenario, number, &mut dice)).collect();
        scenario.probes_from = count;
        for listener in 0..scenario.listeners.len() {
            scenario.connections.push(probe(&scenario, count + listener, listener));
        }
        scenario
    }
}

fn respond(dice: &mut Dice) -> Respond {
    let status = dice.pick(&[200, 204, 404, 503]);
    let bytes = if status == 204 { 0 } else { dice.size(3_000) };
    Respond { status, body: "x".repeat(bytes as usize) }
}

/// A connection that asks every endpoint once, as plainly as can be.
fn probe(scenario: &Scenario, number: usize, listener: usize) -> ConnectionPlan {
    let pace = Pace { piece_bytes: 1, pause: Duration::ZERO, pauses: 0 };
    let answer = AnswerPlan {
        timing: Timing::AfterRequest,
        waits_before: Duration::ZERO,
        interim: &[],
        status: 200,
        body: BodyPlan { framing: Framing::Length, bytes: 20 },
        hop_fields: false,
        pace,
        defect: None,
        after: After::Keep,
    };
    let upstreams = scenario.upstreams.iter().enumerate();
    let endpoints = upstreams.flat_map(|(index, upstream)| upstream.endpoints.iter().map(move |_| index));
    let request = |(nth, upstream)| RequestPlan {
        id: RequestId::new(number, nth),
        method: Method::Get,
        is_http10: false,
        connection: None,
        absolute_form: false,
        hop_fields: false,
        destination: Destination::Upstream(upstream),
        body: BodyPlan::NONE,
        expects_continue: false,
        waits_before: Duration::ZERO,
        pace,
        fate: Fate::Whole,
        answers: [answer; 2],
    };
    ConnectionPlan {
        listener,
        starts_after: Duration::ZERO,
        window: 1,
        requests: endpoints.enumerate().map(request).collect(),
        reading: Reading::Prompt,
        end: ClientEnd::Close,
    }
}

fn address([a, b, c, d]: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::from(([a, b, c, d], port))
}

/// Deadlines that a jittery network keeps far away from and a stalling peer does not.
fn times(dice: &mut Dice) -> Times {
    Times {
        head: dice.millis(5_000, 10_000),
        idle: dice.millis(20_000, 60_000),
        body: dice.millis(4_000, 8_000),
        send: dice.millis(4_000, 8_000),
        connect: dice.millis(5_000, 8_000),
        first_byte: dice.millis(5_000, 8_000),
        upstream_body: dice.millis(4_000, 8_000),
        upstream_send: dice.millis(4_000, 8_000),
        upstream_idle: dice.millis(500, 30_000),
    }
}

/// The configuration as an operator would write it.
fn config(scenario: &Scenario, dice: &mut Dice) -> String {
    let times = &scenario.times;
    let ms = |duration: Duration| format!("\"{}ms\"", duration.as_millis());
    let mut text = format!(
        "[process]\nbuffers_per_core = {}\nbuffer_size = \"{}KiB\"\naccept_handoff = {}\n\n[admin]\nenabled = false\n\n",
        dice.pick(&[16, 24, 64, 256]),
        dice.pick(&[4, 8, 16, 64]),
        dice.chance(50),
    );
    let limits =
        scenario.limits.requests.map_or(String::new(), |count| format!("limits.requests = {count}\n"));
    for (nth, bind) in scenario.listeners.iter().enumerate() {
        text += &format!(
            "[listener.l{nth}]\nbind = \"{bind}\"\ntimeouts = {{ head = {}, idle = {}, body = {}, send = {} }}\n{limits}\n",
            ms(times.head),
            ms(times.idle),
            ms(times.body),
            ms(times.send),
        );
    }
    let mut channel = String::new();
    if let Some(total) = scenario.total_timeout {
        channel += &format!("timeouts.total = {}\n", ms(total));
    }
    if let Some(bytes) = scenario.limits.body_bytes {
        channel += &format!("limits.body_bytes = \"{bytes}B\"\n");
    }
    for (nth, upstream) in scenario.upstreams.iter().enumerate() {
        let endpoints: Vec<String> =
            upstream.endpoints.iter().map(|address| format!("\"{address}\"")).collect();
        text += &format!(
            "[upstream.u{nth}]\nendpoints = [{}]\nidle_connections = {}\nidle_timeout = {}\n\
             timeouts = {{ connect = {}, first_byte = {}, body = {}, send = {} }}\n\
             retry = {{ tries = 2, budget = \"100%\" }}\n\n\
             [channel.c{nth}]\nmatch = {{ path_prefix = \"/u{nth}/\" }}\nupstream = \"u{nth}\"\n{channel}\n",
            endpoints.join(", "),
            dice.pick(&[0, 1, 4, 64]),
            ms(times.upstream_idle),
            ms(times.connect),
            ms(times.first_byte),
            ms(times.upstream_body),
            ms(times.upstream_send),
        );
    }
    let Respond { status, body } = &scenario.respond;
    text + &format!(
        "[channel.respond]\nmatch = {{ path_prefix = \"/respond/\" }}\nrespond = {{ status = {status}, body = \"{body}\" }}\n"
    )
}

fn connection(scenario: &Scenario, number: usize, dice: &mut Dice) -> ConnectionPlan {
    let is_rude = scenario.character.has_rude_peers();
    let count = dice.between(1, 8) as usize;
    let mut requests = Vec::new();
    for nth in 0..count {
        let request = request(scenario, RequestId::new(number, nth), dice);
        let ends = request.ends_connection();
        requests.push(request);
        // What follows a message that is not whole would be read as part of it.
        if ends {
            break;
        }
    }
    let reading = match dice.between(0, 9) {
        0..=6 => Reading::Prompt,
        7 if is_rude => Reading::Stalls {
            after_bytes: dice.between(0, 20_000),
            pause: scenario.times.send + scenario.times.idle + Duration::from_secs(3),
        },
        _ => Reading::Slow {
            every_bytes: dice.between(50, 30_000),
            pause: dice.millis(1, 300),
            pauses: dice.between(1, 6) as u32,
        },
    };
    let latest_start = if dice.chance(70) { 300 } else { 10_000 };
    ConnectionPlan {
        listener: dice.index(scenario.listeners.len()),
        starts_after: dice.millis(0, latest_start),
        window: if dice.chance(60) { 1 } else { dice.between(2, 6) as usize },
        requests,
        reading,
        end: match dice.between(0, 9) {
            0..=4 => ClientEnd::Close,
            5..=6 => ClientEnd::HalfClose,
            7 if is_rude => ClientEnd::Vanish,
            _ => ClientEnd::Idle,
        },
    }
}

fn request(scenario: &Scenario, id: RequestId, dice: &mut Dice) -> RequestPlan {
    use Method::{Delete, Get, Head, Options, Post, Put};

    let is_rude = scenario.character.has_rude_peers();
    let method = dice.pick(&[Get, Get, Get, Get, Post, Post, Post, Put, Head, Delete, Options]);
    let is_http10 = dice.chance(8);
    let body = request_body(method, is_http10, dice);
    let destination = match dice.between(0, 19) {
        0 => Destination::Respond,
        1 => Destination::Nowhere,
        _ => Destination::Upstream(dice.index(scenario.upstreams.len())),
    };
    let mut plan = RequestPlan {
        id,
        method,
        is_http10,
        connection: match (is_http10, dice.chance(if is_http10 { 50 } else { 6 })) {
            (true, true) => Some("keep-alive"),
            (false, true) => Some("close"),
            (_, false) => None,
        },
        absolute_form: dice.chance(5),
        hop_fields: dice.chance(15),
        destination,
        body,
        expects_continue: body.bytes > 0 && !is_http10 && dice.chance(15),
        waits_before: if dice.chance(80) { Duration::ZERO } else { dice.millis(1, 4_000) },
        pace: pace(dice),
        fate: Fate::Whole,
        answers: [answer(scenario, method, is_rude, dice), answer(scenario, method, false, dice)],
    };
    if is_rude && dice.chance(8) {
        let how = dice.pick(&[Stop::Vanish, Stop::HalfClose, Stop::Stall]);
        plan.fate = Fate::Stops { permille: dice.between(1, 999), how };
    } else if is_rude && dice.chance(8) {
        plan.fate = Fate::Hostile(Hostile::nth(dice.index(Hostile::COUNT)));
        plan.destination = Destination::Upstream(dice.index(scenario.upstreams.len()));
        plan.method = Post;
        plan.is_http10 = false;
        plan.expects_continue = false;
    }
    plan
}

fn request_body(method: Method, is_http10: bool, dice: &mut Dice) -> BodyPlan {
    let has_body = match method {
        Method::Post | Method::Put => dice.chance(90),
        Method::Get | Method::Delete => dice.chance(8),
        Method::Head | Method::Options => false,
    };
    if !has_body {
        return BodyPlan::NONE;
    }
    let bytes = dice.size(BODY_BYTES_MAX);
    let framing = if is_http10 || dice.chance(55) { Framing::Length } else { chunked(dice) };
    BodyPlan { framing, bytes }
}

fn chunked(dice: &mut Dice) -> Framing {
    Framing::Chunked {
        chunk_bytes_max: dice.pick(&[8, 50, 1_000, 4_000, 40_000]),
        extensions: dice.chance(25),
        trailer: dice.chance(25),
    }
}

fn pace(dice: &mut Dice) -> Pace {
    let pauses = if dice.chance(70) { 0 } else { dice.between(1, 4) as u32 };
    Pace { piece_bytes: dice.between(1, 3_000) as usize, pause: dice.millis(1, 400), pauses }
}

/// What an origin does; a rude one may get anything wrong.
fn answer(scenario: &Scenario, method: Method, is_rude: bool, dice: &mut Dice) -> AnswerPlan {
    let status = dice.pick(&[200, 200, 200, 200, 200, 201, 204, 304, 404, 500]);
    let has_body = !matches!(status, 204 | 304);
    let body = match (has_body, dice.between(0, 9)) {
        (false, _) => BodyPlan::NONE,
        (true, 0..=5) => BodyPlan { framing: Framing::Length, bytes: dice.size(BODY_BYTES_MAX) },
        (true, 9) if method != Method::Head => {
            BodyPlan { framing: Framing::UntilClose, bytes: dice.size(BODY_BYTES_MAX) }
        }
        (true, _) => BodyPlan { framing: chunked(dice), bytes: dice.size(BODY_BYTES_MAX) },
    };
    let mut plan = AnswerPlan {
        timing: Timing::AfterRequest,
        waits_before: if dice.chance(70) { Duration::ZERO } else { dice.millis(1, 1_500) },
        interim: dice.pick(&[&[][..], &[], &[], &[], &[], &[103], &[102, 103]]),
        status,
        body,
        hop_fields: dice.chance(15),
        pace: pace(dice),
        defect: None,
        after: if dice.chance(15) { After::Close } else { After::Keep },
    };
    if is_rude && dice.chance(25) {
        misbehave(scenario, method, &mut plan, dice);
    }
    plan
}

fn misbehave(scenario: &Scenario, method: Method, plan: &mut AnswerPlan, dice: &mut Dice) {
    let permille = dice.between(1, 999);
    let ends_itself = plan.body.framing != Framing::UntilClose;
    match dice.between(0, 13) {
        0..=1 => plan.timing = Timing::Early,
        2 => plan.timing = Timing::EarlyAndGone,
        3 => plan.after = After::CloseQuietly,
        4 => plan.after = After::CloseOnNext,
        5..=6 if ends_itself => {
            let looks_like_an_answer = scenario.network == Network::Calm && dice.chance(50);
            plan.after = After::Unsolicited { looks_like_an_answer };
            // In one piece with the answer, so that nobody can have asked for it meanwhile.
            plan.body.bytes = plan.body.bytes.min(500);
            plan.pace.pauses = 0;
        }
        7 => plan.defect = Some(Defect::NoAnswer),
        8 => plan.defect = Some(Defect::NeverAnswers),
        9..=10 if ends_itself => plan.defect = Some(Defect::Truncated { permille }),
        11 if ends_itself => plan.defect = Some(Defect::Stalls { permille }),
        12 if matches!(plan.body.framing, Framing::Chunked { .. }) && method != Method::Head => {
            plan.defect = Some(Defect::BrokenChunk);
        }
        13 => plan.defect = Some(Defect::Switches),
        _ => plan.defect = Some(Defect::BrokenHead(dice.index(BROKEN_HEADS.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_scenario() {
        assert_eq!(format!("{:?}", Scenario::of(3)), format!("{:?}", Scenario::of(3)));
        assert_ne!(format!("{:?}", Scenario::of(3)), format!("{:?}", Scenario::of(4)));
    }

    #[test]
    fn every_configuration_loads() {
        for seed in 0..300 {
            let config = Scenario::of(seed).config;
            if let Err(problems) = config::load_str("scenario", &config, config::Format::Toml, &|_| None) {
                panic!("seed {seed}: {problems}\n{config}");
            }
        }
    }

    #[test]
    fn nobody_misbehaves_in_a_clean_scenario() {
        let clean = (0..300).map(Scenario::of).filter(|scenario| scenario.character == Character::Clean);
        let mut requests = 0;
        for scenario in clean {
            for request in scenario.requests() {
                assert!(
                    request.is_whole() && request.answers.iter().all(|answer| !answer.spoils_connection())
                );
                requests += 1;
            }
        }
        assert!(requests > 500);
    }
}
