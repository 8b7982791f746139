//! What do all cores need to choose among an upstream's endpoints, that can be known beforehand? Tables, cookies, who is near.
//!
//! Never made on a request's way: control makes it when it publishes a list, out of the one before as far as that holds.

use std::sync::Arc;

use config::snapshot::balance::{HashTable, StickyRule};
use config::snapshot::{EndpointId, Snapshot, Upstream};
use proto::balance::hash;
use proto::balance::ketama::Ketama;
use proto::balance::maglev::Maglev;
use proto::balance::scheduler::Table;

use super::member::{Member, Members, State};
use crate::sticky::Cookies;

/// What an upstream's guides are made by.
#[derive(Debug)]
pub(super) struct Rules {
    upstream: Box<str>,
    slots_count: u16,
    table: Option<HashTable>,
    sticky: Option<Box<StickyRule>>,
    /// Where this process stands.
    zone: Option<Box<str>>,
}

/// What goes with a list of endpoints.
#[derive(Debug, Default)]
pub(crate) struct Guide {
    /// Whether the weights of all candidates are equal.
    pub(crate) is_even: bool,
    /// How many of the candidates, from the first on, stand where this process does.
    pub(crate) near_count: u16,
    /// Where keys lead.
    table: Option<Arc<Direct>>,
    /// Candidates by index of the table; [`NOBODY`] for what is no candidate now.
    by_table: Box<[u16]>,
    /// What cookies can say.
    pub(crate) cookies: Option<Arc<Cookies>>,
}

/// Where keys lead, and of whom that was made.
#[derive(Debug)]
struct Direct {
    table: Table,
    /// Slot, number of the name and weight of each, by index of the table.
    endpoints: Box<[(EndpointId, u64, u32)]>,
}

const NOBODY: u16 = u16::MAX;

impl Rules {
    pub(super) fn new(snapshot: &Snapshot, upstream: &Upstream) -> Self {
        Self {
            upstream: upstream.name.as_str().into(),
            slots_count: upstream.slots_count,
            table: upstream.balance.hash().map(|rule| rule.table),
            sticky: upstream.sticky.clone(),
            zone: snapshot.process.zone.clone(),
        }
    }

    fn is_near(&self, member: &Member) -> bool {
        self.zone.is_some() && self.zone.as_deref() == member.zone.as_deref()
    }

    /// Completes a list that is to be published after `before`.
    pub(super) fn guide(&self, members: &mut Members, before: &Members) {
        let Members { all, candidates, .. } = members;
        // Stable, so that candidates stay in order otherwise.
        candidates.sort_by_key(|index| !self.is_near(&all[usize::from(*index)]));
        let near_count =
            candidates.iter().take_while(|index| self.is_near(&all[usize::from(**index)])).count();
        let weight = |index: &u16| all[usize::from(*index)].weight;
        let is_even = candidates.windows(2).all(|pair| weight(&pair[0]) == weight(&pair[1]));
        let table = self.table.and_then(|kind| self.direct(kind, all, before));
        let number_of = |id: EndpointId| {
            let is_it = |index: &u16| all[usize::from(*index)].id == id;
            candidates.iter().position(is_it).map_or(NOBODY, |number| number as u16)
        };
        let by_table = table.iter().flat_map(|table| &table.endpoints).map(|(id, ..)| number_of(*id));
        members.guide = Guide {
            is_even,
            near_count: near_count as u16,
            by_table: by_table.collect(),
            table,
            cookies: self.cookies(&members.all, before),
        };
    }

    /// Of all who are there and wanted, whether they are up or not: a key leads back to who comes back. Of the first priority,
    /// and of those near if any are.
    fn direct(&self, kind: HashTable, all: &[Member], before: &Members) -> Option<Arc<Direct>> {
        let wanted = || all.iter().filter(|member| member.state != State::Draining && member.weight_full > 0);
        let priority = wanted().map(|member| member.priority).min()?;
        let has_near = wanted().any(|member| member.priority == priority && self.is_near(member));
        let is_meant = |member: &&Member| member.priority == priority && (!has_near || self.is_near(member));
        let endpoints: Box<[_]> = wanted()
            .filter(is_meant)
            .map(|member| (member.id, hash::of_bytes(member.name.as_bytes()), member.weight_full))
            .collect();
        if let Some(table) = before.guide.table.as_ref().filter(|table| table.endpoints == endpoints) {
            return Some(Arc::clone(table));
        }
        let terms: Vec<_> = endpoints.iter().map(|(_, name, weight)| (*name, *weight)).collect();
        let table = match kind {
            HashTable::Maglev => Table::Maglev(Maglev::new(&terms, self.slots_count)),
            HashTable::Ketama => Table::Ketama(Ketama::new(&terms)),
        };
        Some(Arc::new(Direct { table, endpoints }))
    }

    fn cookies(&self, all: &[Member], before: &Members) -> Option<Arc<Cookies>> {
        let rule = self.sticky.as_ref()?;
        let names = |all: &[Member]| -> Vec<_> {
            all.iter().map(|member| (member.id, Arc::clone(&member.name))).collect()
        };
        let endpoints = names(all);
        if let Some(cookies) = &before.guide.cookies
            && names(&before.all) == endpoints
        {
            return Some(Arc::clone(cookies));
        }
        let endpoints = endpoints.iter().map(|(id, name)| (*id, &**name));
        Some(Arc::new(Cookies::new(rule, &self.upstream, endpoints)))
    }
}

impl Guide {
    /// The candidate that a key leads to, of those that may be chosen; where none of those in the table may, one of the rest.
    pub(crate) fn find(&self, key: u64, candidates: u16, may_take: impl Fn(u16) -> bool) -> Option<u16> {
        let candidate = |index: u16| self.by_table[usize::from(index)];
        let may = |index| candidate(index) != NOBODY && may_take(candidate(index));
        if let Some(index) = self.table.as_ref().and_then(|direct| direct.table.pick(key, may)) {
            return Some(candidate(index));
        }
        let start = hash::below(hash::salted(key, 1), candidates.into()) as u16;
        (start..candidates).chain(0..start).find(|&candidate| may_take(candidate))
    }
}

#[cfg(test)]
mod tests {
    use config::snapshot::{EndpointAddress, UpstreamId};

    use super::*;
    use crate::roster::keeper::Keeper;

    const UPSTREAM: UpstreamId = UpstreamId(0);

    /// Of an upstream with these keys and endpoints at the ports 1, 2 and 3, each with keys of its own.
    fn keeper(upstream: &str, endpoints: [&str; 3]) -> Keeper {
        let entries: Vec<_> = (1..)
            .zip(endpoints)
            .map(|(port, keys)| format!("{{ address = '10.0.0.1:{port}', {keys} }}"))
            .collect();
        let text = format!(
            "process.zone = 'a'\n[listener.web]\nbind = '127.0.0.1:1'\n[channel.c]\nupstream = 'u'\n\
             [upstream.u]\nendpoints = [{}]\n{upstream}",
            entries.join(", ")
        );
        let loaded = config::load_str("a.toml", &text, config::Format::Toml, &|_| None);
        let snapshot = loaded.unwrap_or_else(|problems| panic!("{problems}")).snapshot;
        Keeper::new(&snapshot, |written| match written {
            EndpointAddress::Tcp(address) => (*address).into(),
            other => panic!("{other:?}"),
        })
    }

    fn id(keeper: &Keeper, port: u16) -> EndpointId {
        keeper.find(UPSTREAM, &format!("10.0.0.1:{port}")).expect("written")
    }

    /// The port that each of some keys leads to.
    fn ports(keeper: &Keeper) -> Vec<u16> {
        let members = keeper.roster().members(UPSTREAM);
        let count = members.candidates.len() as u16;
        let port =
            |index| members.candidate(index).name.rsplit(':').next().and_then(|port| port.parse().ok());
        let lead = |key| members.guide.find(hash::mix(key), count, |_| true).and_then(port);
        (0..300).map(|key| lead(key).expect("somebody")).collect()
    }

    const PLAIN: [&str; 3] = ["weight = 1"; 3];

    #[test]
    fn whoever_is_down_takes_no_key_along_and_gets_its_own_back() {
        for table in ["maglev", "ketama"] {
            let rule = format!("balance = 'hash'\nhash = {{ on = 'uri', table = '{table}' }}");
            let mut keeper = keeper(&rule, PLAIN);
            let before = ports(&keeper);
            let first = id(&keeper, 1);
            let table_of =
                |keeper: &Keeper| keeper.roster().members(UPSTREAM).guide.table.clone().expect("a table");
            let made = table_of(&keeper);
            keeper.set_health(UPSTREAM, first, false).expect("it is there");
            assert!(Arc::ptr_eq(&made, &table_of(&keeper)), "nothing is made anew");
            for (before, during) in before.iter().zip(ports(&keeper)) {
                assert!(if *before == 1 { during != 1 } else { during == *before });
            }
            keeper.set_health(UPSTREAM, first, true).expect("it is there");
            assert_eq!(ports(&keeper), before);
            keeper.set_weight(UPSTREAM, first, 5).expect("it is there");
            assert!(!Arc::ptr_eq(&made, &table_of(&keeper)));
            let share = |ports: Vec<u16>| ports.into_iter().filter(|port| *port == 1).count();
            assert!(share(ports(&keeper)) > share(before) * 3 / 2);
        }
    }

    #[test]
    fn keys_lead_to_backups_when_nobody_else_is_left() {
        let mut keeper = keeper("balance = 'source_hash'", ["weight = 1", "backup = true", "backup = true"]);
        assert!(ports(&keeper).iter().all(|port| *port == 1));
        let first = id(&keeper, 1);
        keeper.set_health(UPSTREAM, first, false).expect("it is there");
        let backups = ports(&keeper);
        assert!(backups.contains(&2) && backups.contains(&3) && !backups.contains(&1));
        assert_eq!(ports(&keeper), backups);
    }

    #[test]
    fn those_of_the_own_zone_are_first() {
        let mut keeper = keeper("", ["zone = 'b'", "zone = 'a'", "weight = 2"]);
        let near = |keeper: &Keeper| {
            let members = keeper.roster().members(UPSTREAM);
            let names =
                (0..members.candidates.len() as u16).map(|index| members.candidate(index).name.to_string());
            (names.collect::<Vec<_>>(), members.guide.near_count, members.guide.is_even)
        };
        let (names, count, is_even) = near(&keeper);
        assert_eq!(names, ["10.0.0.1:2", "10.0.0.1:1", "10.0.0.1:3"]);
        assert_eq!((count, is_even), (1, false));
        let second = id(&keeper, 2);
        keeper.set_health(UPSTREAM, second, false).expect("it is there");
        assert_eq!(near(&keeper).1, 0);
        let third = id(&keeper, 3);
        keeper.set_weight(UPSTREAM, third, 1).expect("it is there");
        assert!(near(&keeper).2);
    }

    #[test]
    fn cookies_are_signed_anew_only_when_endpoints_come_or_go() {
        let mut keeper = keeper("sticky = { secret = '0123456789abcdef' }", PLAIN);
        let cookies_of =
            |keeper: &Keeper| keeper.roster().members(UPSTREAM).guide.cookies.clone().expect("cookies");
        let made = cookies_of(&keeper);
        let first = id(&keeper, 1);
        keeper.set_health(UPSTREAM, first, false).expect("it is there");
        assert!(Arc::ptr_eq(&made, &cookies_of(&keeper)));
        keeper.remove(UPSTREAM, first).expect("it is there");
        assert!(!Arc::ptr_eq(&made, &cookies_of(&keeper)));
    }
}
