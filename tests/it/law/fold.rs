//! The plan of a batch depends on the set of its facts only.

use proptest::prelude::*;
use rollcall::plan::Plan;
use uuid::Uuid;

use super::{
    calendar::ZONES,
    model::{Org, OrgFact},
    runner::{decoded_all, facts, holds},
};

const CASES: u32 = 400;
const ORGS: [Org; 2] =
    [Org { id: Uuid::from_u128(1), zone: &ZONES[0] }, Org { id: Uuid::from_u128(2), zone: &ZONES[1] }];

fn fold<'a>(facts: &[OrgFact<'a>]) -> Plan<'a> {
    Plan::fold(facts.iter().copied())
}

#[test]
fn facts_fold_to_one_plan_in_any_order_and_number() {
    holds(CASES, |world| {
        let events = decoded_all(world, ORGS, true);
        let plan = fold(&facts(&events));
        for way in 0..3 {
            let delivered: Vec<_> = world.batches(way).concat();
            prop_assert_eq!(&fold(&facts(delivered.iter().map(|&index| &events[index]))), &plan);
        }
        Ok(())
    });
}

#[test]
fn a_plan_holds_every_key_of_its_facts_once_in_order() {
    holds(CASES, |world| {
        let events = decoded_all(world, ORGS, true);
        let facts = facts(&events);
        let plan = fold(&facts);
        let users = keys(&facts, |&(org, fact)| (org, fact.user.id));
        prop_assert_eq!(plan.participants.iter().map(|(key, _)| *key).collect::<Vec<_>>(), users);
        let members = keys(&facts, |&(org, fact)| ((org, fact.user.id), fact.chat.id));
        prop_assert_eq!(plan.memberships.iter().map(|(key, _)| *key).collect::<Vec<_>>(), members);
        let chats = keys(&facts, |&(org, fact)| (org, fact.chat.id));
        prop_assert_eq!(plan.groups.iter().map(|(key, _)| *key).collect::<Vec<_>>(), chats);
        let activity = keys(&facts, |&(org, fact)| (org, fact.user.id, fact.chat.id, fact.what.name(), fact.source_id));
        prop_assert_eq!(plan.activity.iter().map(|(key, _)| *key).collect::<Vec<_>>(), activity);
        Ok(())
    });
}

fn keys<'a, K: Ord>(facts: &[OrgFact<'a>], key: impl Fn(&OrgFact<'a>) -> K) -> Vec<K> {
    let mut keys: Vec<_> = facts.iter().map(key).collect();
    keys.sort();
    keys.dedup();
    keys
}
