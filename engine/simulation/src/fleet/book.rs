//! What did everybody in a fleet do and see? What the laws are judged by.
//!
//! Never judges what can only be told at the end; keeps the first law that is broken at once.

use std::collections::BTreeMap;
use std::time::Duration;

use runtime::Instant;

use super::member::id_of;
use super::plan::Asked;
use crate::wire::{Ended, Head};

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) asked: Asked,
    pub(super) is_probe: bool,
    pub(super) begun: Option<Instant>,
    pub(super) ended: Option<Instant>,
    /// Which members it arrived at, and when.
    pub(super) deliveries: Vec<(usize, Instant)>,
    /// Members that have sent their whole answer.
    pub(super) answered_by: Vec<usize>,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Not asked, or nobody knows yet.
    Open,
    /// A member's answer came whole.
    Answered,
    /// The engine said so itself.
    Own(u16),
    /// The connection ended before the answer did.
    Cut,
    /// Nothing came for as long as a client may have to wait.
    Forgotten,
}

/// The endpoints that may be used, from some moment on.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) from: Instant,
    /// Members that control has published as those that may be asked.
    pub(super) candidates: Vec<usize>,
    /// Members that somebody has asked to be left alone, or that nobody has put on the list.
    pub(super) closed: Vec<usize>,
}

/// A connection as its member sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    member: usize,
    opened: Instant,
    closed: Option<Instant>,
    is_probe: bool,
}

#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) requests: Vec<Request>,
    pub(super) lists: Vec<Listed>,
    pub(super) clients_open: usize,
    pub(super) control_ended: bool,
    /// How many members there are.
    pub(super) members: usize,
    /// Connections of members, in the order of their accept.
    pub(super) connections: Vec<Connection>,
    /// Requests that members have and have not answered.
    pub(super) in_progress: u32,
    pub(super) in_progress_max: u32,
    pub(super) met: BTreeMap<&'static str, u64>,
    pub(super) broken: Option<String>,
    pub(super) prints: bool,
    pub(super) began: Option<Instant>,
}

impl Book {
    pub(super) fn breaks(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.note(|| format!("BROKEN {what}"));
        self.broken.get_or_insert(what);
    }

    /// Something happened that a sweep is to have seen.
    pub(super) fn met(&mut self, what: &'static str) {
        *self.met.entry(what).or_default() += 1;
    }

    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        if self.prints {
            println!("{}", what());
        }
    }

    pub(super) fn seconds(&self, at: Instant) -> f64 {
        self.began.map_or(Duration::ZERO, |began| at.since(began)).as_secs_f64()
    }

    pub(super) fn opens(&mut self, member: usize, at: Instant) -> usize {
        let number = self.connections.len();
        self.connections.push(Connection { member, opened: at, closed: None, is_probe: false });
        self.note(|| format!("{:>12.6}  member {member} accepts {number}", self.seconds(at)));
        number
    }

    /// A connection is control's.
    pub(super) fn is_probed(&mut self, number: usize) {
        self.connections[number].is_probe = true;
    }

    /// Most connections that a member had at a time and that were not control's. One that is closed within `slack` of the
    /// next one's accept may have been closed before.
    pub(super) fn connections_max(&self, slack: Duration) -> u32 {
        let mut most = 0;
        for member in 0..self.members {
            let ours = || {
                self.connections
                    .iter()
                    .filter(|connection| connection.member == member && !connection.is_probe)
            };
            for (index, at) in ours().map(|connection| connection.opened).enumerate() {
                let is_open = |other: &&Connection| other.closed.is_none_or(|closed| closed > at + slack);
                most = most.max(ours().take(index + 1).filter(is_open).count() as u32);
            }
        }
        most
    }

    pub(super) fn closes(&mut self, member: usize, number: usize, at: Instant) {
        self.connections[number].closed = Some(at);
        self.note(|| format!("{:>12.6}  member {member} closes {number}", self.seconds(at)));
    }

    /// A request has arrived at a member.
    pub(super) fn arrives(
        &mut self,
        head: &Head,
        member: usize,
        at: Instant,
    ) -> Result<(usize, Asked), Ended> {
        let Some(id) = id_of(head).filter(|id| *id < self.requests.len()) else {
            self.breaks(format!("RequestInvented: {} at member {member}", head.start));
            return Err(Ended::Closed);
        };
        self.note(|| format!("{:>12.6}  member {member} reads {id}", self.seconds(at)));
        let request = &mut self.requests[id];
        let asked = request.asked;
        request.deliveries.push((member, at));
        self.in_progress += 1;
        self.in_progress_max = self.in_progress_max.max(self.in_progress);
        let request = &self.requests[id];
        let (begun, times) = (request.begun, request.deliveries.len());
        if head.start.starts_with("POST ") != asked.is_post {
            self.breaks(format!("RequestAltered: {} of {id}", head.start));
        }
        if asked.is_post && times > 1 {
            self.breaks(format!("RepeatedWithEffect: POST {id} at {:?}", self.requests[id].deliveries));
        }
        let Some(begun) = begun else {
            self.breaks(format!("RequestInvented: nobody has asked {id}"));
            return Ok((id, asked));
        };
        if self.during(begun, at).all(|list| list.closed.contains(&member)) {
            self.breaks(format!("LeftAloneAsked: {id} at member {member}, which was to get nothing new"));
        }
        if self.during(begun, at).all(|list| !list.candidates.contains(&member)) {
            self.breaks(format!("LeftAloneAsked: {id} at member {member}, which was no candidate"));
        }
        Ok((id, asked))
    }

    pub(super) fn answered(&mut self, id: usize, member: usize) {
        self.requests[id].answered_by.push(member);
        self.in_progress = self.in_progress.saturating_sub(1);
    }

    /// The lists that held at some moment between these two.
    pub(super) fn during(&self, from: Instant, to: Instant) -> impl Iterator<Item = &Listed> {
        let first = self.lists.iter().rposition(|list| list.from <= from).unwrap_or(0);
        self.lists[first..].iter().take_while(move |list| list.from <= to)
    }
}
