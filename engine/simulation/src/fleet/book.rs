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

#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) requests: Vec<Request>,
    pub(super) lists: Vec<Listed>,
    pub(super) clients_open: usize,
    pub(super) control_ended: bool,
    /// By member: connections open now.
    pub(super) open: Vec<u32>,
    pub(super) connections: usize,
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
        self.connections += 1;
        self.open[member] += 1;
        self.note(|| format!("{:>12.6}  member {member} accepts {}", self.seconds(at), self.connections));
        self.connections
    }

    pub(super) fn closes(&mut self, member: usize, number: usize, at: Instant) {
        self.open[member] -= 1;
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
    }

    /// The lists that held at some moment between these two.
    pub(super) fn during(&self, from: Instant, to: Instant) -> impl Iterator<Item = &Listed> {
        let first = self.lists.iter().rposition(|list| list.from <= from).unwrap_or(0);
        self.lists[first..].iter().take_while(move |list| list.from <= to)
    }
}
