//! Does every core's loop still turn? Looked at again and again; only while all do, the supervisor's watchdog is fed.
//!
//! Never takes an idle core for a stalled one: a core that sleeps is woken and has until the next look to turn. Control is proven by the
//! look itself, which is taken on its own loop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proxy::message::CoreMessage;

use crate::Shared;

/// Looks in the time after which the supervisor gives the process up: one that comes late, or one turn that takes long, is no end yet.
const LOOKS_PER_PERIOD: u32 = 3;

/// Between two looks when nobody waits for a sign of life: the log says all the same which core is stalled.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Shortest time between two looks, however short the supervisor's patience.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(10);

/// Between two lines on a core that stays stalled.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// One core, as it was seen.
#[derive(Clone, Copy, Debug)]
struct Seen {
    turns: u64,
    /// When it had turned since the look before.
    turned: Instant,
    /// Looks since then.
    looks: u32,
    /// When the operator was told that it has not, if he was.
    told: Option<Instant>,
}

/// All cores, by index.
#[derive(Debug)]
struct Watch(Box<[Seen]>);

/// What a look has shown.
#[derive(Debug, PartialEq, Eq)]
enum News {
    /// A core has not turned for so long.
    Stalled { core: usize, since: Duration },
    /// One that had been told of turns again.
    Turns { core: usize, after: Duration },
}

impl Watch {
    /// Watches cores that have turned so often.
    fn new(now: Instant, turns: impl Iterator<Item = u64>) -> Self {
        Self(turns.map(|turns| Seen { turns, turned: now, looks: 0, told: None }).collect())
    }

    /// Looks: whether all cores have turned since the last look, and what there is to tell.
    fn look(&mut self, now: Instant, turns: impl Iterator<Item = u64>) -> (bool, Vec<News>) {
        let mut news = Vec::new();
        for (core, (seen, turns)) in self.0.iter_mut().zip(turns).enumerate() {
            let since = now.duration_since(seen.turned);
            if turns != seen.turns {
                if seen.told.is_some() {
                    news.push(News::Turns { core, after: since });
                }
                *seen = Seen { turns, turned: now, looks: 0, told: None };
                continue;
            }
            seen.looks += 1;
            // The first may be the supervisor's, or the operator's, who has stopped the whole process and let it go on just now.
            let is_time = seen.told.is_none_or(|told| now.duration_since(told) >= TELL_EVERY);
            if seen.looks > 1 && is_time {
                seen.told = Some(now);
                news.push(News::Stalled { core, since });
            }
        }
        (self.0.iter().all(|seen| seen.looks == 0), news)
    }
}

/// Looks for as long as the process lives.
pub(crate) async fn rounds(shared: Arc<Shared>) {
    let turns =
        || shared.live().generation.stats.iter().map(|core| core.runtime.turns.value()).collect::<Vec<_>>();
    shared.supervisor.served().await;
    let period = shared.supervisor.watchdog();
    let every = period.map_or(LOOK_EVERY, |period| (period / LOOKS_PER_PERIOD).max(LOOK_EVERY_MIN));
    let mut watch = Watch::new(Instant::now(), turns().into_iter());
    loop {
        for fellow in shared.fellows.iter() {
            // A core that sleeps has nothing to turn for. One whose mailbox is full has.
            let _ = fellow.sender.send(CoreMessage::Turn);
        }
        tokio::time::sleep(every).await;
        if shared.is_draining() {
            // Cores end, one after the other; the drain has a deadline of its own.
            shared.supervisor.beat_if(period.is_some());
            continue;
        }
        let (all_turn, news) = watch.look(Instant::now(), turns().into_iter());
        news.iter().for_each(|news| tell(news, period.is_some()));
        shared.supervisor.beat_if(all_turn && period.is_some());
    }
}

fn tell(news: &News, is_watched: bool) {
    match news {
        News::Stalled { core, since } => {
            let follows = if is_watched { ": the watchdog is not fed" } else { "" };
            tracing::error!("core {core} has not turned its loop for {} ms{follows}", since.as_millis());
        }
        News::Turns { core, after } => {
            tracing::warn!("core {core} turns its loop again, after {} ms", after.as_millis());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks a second apart at two cores that have turned so often; what each look says.
    fn looks(turns: &[[u64; 2]]) -> Vec<(bool, Vec<News>)> {
        let begin = Instant::now();
        let mut watch = Watch::new(begin, [0, 0].into_iter());
        let at = |second: usize| begin + Duration::from_secs(second as u64);
        let numbered = (1..).zip(turns);
        numbered.map(|(second, turns)| watch.look(at(second), turns.iter().copied())).collect()
    }

    #[test]
    fn all_turn_only_while_each_has_turned_since_the_last_look() {
        let said = looks(&[[1, 1], [2, 2], [3, 2], [4, 3], [4, 3]]);
        assert_eq!(
            said.iter().map(|(all_turn, _)| *all_turn).collect::<Vec<_>>(),
            [true, true, false, true, false]
        );
        assert!(
            said.iter().all(|(_, news)| news.is_empty()),
            "one look without a turn is nothing to tell: {said:?}"
        );
    }

    #[test]
    fn a_core_that_is_stalled_is_named_at_the_second_look_and_then_now_and_then() {
        let turns: Vec<[u64; 2]> = (1..=14).map(|turns| [turns, 1]).chain([[15, 2]]).collect();
        let said = looks(&turns);
        assert!(said[1..14].iter().all(|(all_turn, _)| !all_turn));
        let news: Vec<(usize, &News)> = (1..)
            .zip(&said)
            .flat_map(|(second, (_, news))| news.iter().map(move |news| (second, news)))
            .collect();
        let stalled = |seconds| News::Stalled { core: 1, since: Duration::from_secs(seconds) };
        let again = News::Turns { core: 1, after: Duration::from_secs(14) };
        assert_eq!(news, [(3, &stalled(2)), (13, &stalled(12)), (15, &again)]);
        assert!(said[14].0);
    }

    #[test]
    fn a_process_that_was_stopped_as_a_whole_is_not_told_of() {
        let begin = Instant::now();
        let mut watch = Watch::new(begin, [5].into_iter());
        let woken = begin + Duration::from_secs(3600);
        assert_eq!(watch.look(woken, [5].into_iter()), (false, vec![]));
        assert_eq!(watch.look(woken + Duration::from_secs(1), [6].into_iter()), (true, vec![]));
    }
}
