//! What the procedure that writes promises to those who call it at once: rows in one order, lookups by key, no conflict.

use std::{
    slice,
    time::{Duration, Instant},
};

use rollcall::{
    apply::{self, Applied, Lane, Wanted},
    clock,
    database::{self, MIGRATOR},
    decode::{Event, Fact},
};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, migrate::Migrator};
use uuid::Uuid;

use crate::support::{
    Place, Replica,
    community::{CHAT, NOON, create_org, enveloped, event, message, messages_of},
    eventually,
};

/// Partitions that sessions have claimed.
const CLAIMS: &str = "pg_locks l join pg_database d on d.oid = l.database
    where l.locktype = 'advisory' and l.classid = 1919904877 and d.datname = current_database()";

fn said(org: Uuid, update_id: i64, user: i64) -> Event<'static> {
    event(&enveloped(org, &message(update_id, user, "hello")).1)
}

/// As [`said`], so many days later.
fn said_on(org: Uuid, update_id: i64, user: i64, day: i64) -> Event<'static> {
    let mut update = message(update_id, user, "hello");
    update["message"]["date"] = (NOON + update_id + day * 86_400).into();
    event(&enveloped(org, &update).1)
}

fn facts<'a>(events: &'a [(Uuid, Event<'a>)]) -> Vec<(Uuid, &'a Fact<'a>)> {
    events.iter().flat_map(|(org, event)| event.facts.iter().map(|fact| (*org, fact))).collect()
}

async fn count(connection: &mut PgConnection, what: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {what}"))).fetch_one(connection).await.unwrap()
}

/// Waits until so many of the database's sessions wait for a lock.
async fn wait_for_waiting(place: &Place, number: i64) {
    let waiting = "pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    eventually("so many wait", async || count(&mut place.connect().await, waiting).await == number).await;
}

/// One transaction writes messages of user 1 and waits, another one writes messages too, and both end. Each message is an
/// update id and a day.
async fn overlap(before: &[(i64, i64)], first: (i64, i64), second: (i64, i64), commits: bool) {
    let place = Place::new().await;
    let mut observer = place.connect().await;
    let org = create_org(&mut observer).await;
    let mut lane = Lane::new(place.settings.database.clone());
    let said = |(update_id, day)| (org, said_on(org, update_id, 1, day));
    let known: Vec<_> = before.iter().copied().map(said).collect();
    lane.apply(&facts(&known)).await.unwrap();

    let events = [said(first)];
    let mut connection = database::connect(&place.settings.database).await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    assert_eq!(apply::apply(&mut transaction, &facts(&events)).await.unwrap(), Applied::default());
    let events = [said(second)];
    let other = tokio::spawn(async move { lane.apply(&facts(&events)).await });
    wait_for_waiting(&place, 1).await;
    if commits {
        transaction.commit().await.unwrap();
    } else {
        transaction.rollback().await.unwrap();
    }
    let applied = other.await.unwrap().unwrap();
    assert_eq!(applied, Applied { met: commits || applied.met, ..Applied::default() });
    assert_eq!(count(&mut observer, "participants").await, 1);
    let joined = "activity_events a join participant_groups g using (org_id, participant_id, tg_chat_id)";
    let messages = before.len() + 1 + usize::from(commits && first != second);
    assert_eq!(count(&mut observer, joined).await, i64::try_from(messages).unwrap());
    place.assert_metrics_recompute().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_whom_another_transaction_creates_is_found_after_it() {
    overlap(&[], (50, 0), (50, 0), true).await;
    overlap(&[], (50, 0), (50, 0), false).await;
    overlap(&[], (50, 0), (51, 0), true).await;
}

/// Nothing is news of the person or the membership, so that they meet in the activity.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_another_transaction_inserts_is_found_after_it() {
    overlap(&[(10, 0), (100, 0)], (50, 0), (50, 0), true).await;
    overlap(&[(10, 0), (100, 0)], (50, 0), (50, 0), false).await;
}

/// Its id is greater than all that are there, so that it is taken for new until it is inserted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newest_message_that_another_transaction_inserts_is_found_after_it() {
    for commits in [true, false] {
        overlap(&[(10, 9)], (50, 5), (50, 5), commits).await;
        overlap(&[(10, 0)], (50, 0), (50, 0), commits).await;
    }
}

/// The messages differ, and nothing is news of the person or the membership: they meet in the day alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_that_another_transaction_begins_is_found_after_it() {
    for commits in [true, false] {
        overlap(&[(10, 0), (100, 9)], (50, 5), (51, 5), commits).await;
        overlap(&[(10, 0)], (50, 5), (51, 5), commits).await;
    }
}

/// Message ids that do not rise with time, as no chat has them, in any order: the days are counted all the same.
#[tokio::test]
async fn people_of_a_day_are_counted_once_in_any_order() {
    let place = Place::new().await;
    let org = create_org(&mut place.connect().await).await;
    let mut lane = Lane::new(place.settings.database.clone());
    let mut random = fastrand::Rng::with_seed(7);
    for user in 1..=60 {
        let mut events: Vec<_> =
            (1..=7).map(|number| (org, said_on(org, user * 10 + number, user, random.i64(0..4)))).collect();
        random.shuffle(&mut events);
        for events in events.chunks(random.usize(1..4)) {
            lane.apply(&facts(events)).await.unwrap();
        }
    }
    place.assert_metrics_recompute().await;
}

/// Clocks change in the middle of a call, near one, and at midnight; and a call reaches over half a year.
#[tokio::test]
async fn a_day_is_that_of_the_clock_of_its_time() {
    const HALF_HOUR: i64 = 1_800;
    let place = Place::new().await;
    let mut observer = place.connect().await;
    let mut lane = Lane::new(place.settings.database.clone());
    let mut random = fastrand::Rng::with_seed(11);
    let zones = [
        "Europe/Berlin",
        "America/Havana",
        "Australia/Lord_Howe",
        "Asia/Beirut",
        "Africa/Casablanca",
        "Asia/Kathmandu",
    ];
    let mut orgs = Vec::new();
    for zone in zones {
        let org = create_org(&mut observer).await;
        sqlx::query("update organizations set timezone = $2 where id = $1")
            .bind(org)
            .bind(zone)
            .execute(&mut observer)
            .await
            .unwrap();
        orgs.push(org);
    }
    // Eight weeks from 2025-03-01 on, in which all of these but the last change their clocks, and a day of half a year before.
    let begin = 1_740_787_200;
    let slots = (0..56 * 48).filter(|slot| slot % 5 < 2).chain((0..48).map(|slot| slot - 180 * 48));
    let mut events = Vec::new();
    for (slot, update_id) in slots.zip(1..) {
        let mut update = message(update_id, 1 + update_id % 2, "hello");
        update["message"]["date"] = (begin + slot * HALF_HOUR - 1).into();
        events.extend(orgs.iter().map(|org| (*org, event(&enveloped(*org, &update).1))));
    }
    // In the order of time with a call for hours, then for days, and in any with one for weeks or for all.
    let (first, second) = (events.len() / 3, events.len() * 2 / 3);
    random.shuffle(&mut events[second..]);
    for (events, size) in [(&events[..first], 30), (&events[first..second], 150), (&events[second..], 400)] {
        for events in events.chunks(size) {
            lane.apply(&facts(events)).await.unwrap();
        }
        place.assert_metrics_recompute().await;
    }
    assert!(count(&mut observer, "(select distinct date from group_metrics) d").await > 56);
}

/// What is said of the newest message is a hint: rows come from elsewhere too, and from replicas that do not know it.
#[tokio::test]
async fn a_message_is_found_though_its_id_is_greater_than_all_that_are_noted() {
    let place = Place::new().await;
    let mut observer = place.connect().await;
    let org = create_org(&mut observer).await;
    let mut lane = Lane::new(place.settings.database.clone());
    let events = [10, 11, 12, 13, 14].map(|id| (org, said(org, id, 1)));
    lane.apply(&facts(&events[..3])).await.unwrap();
    let mut noted = 12;
    for hint in ["10", "null"] {
        let newest = format!("participant_groups where newest_message_id = {noted}");
        assert_eq!(count(&mut observer, &newest).await, 1, "else the rest of this proves nothing");
        let set = format!("update participant_groups set newest_message_id = {hint}");
        sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut observer).await.unwrap();
        noted += 1;
        let messages = noted - 9;
        lane.apply(&facts(&events[..messages])).await.unwrap();
        assert_eq!(count(&mut observer, "activity_events").await, i64::try_from(messages).unwrap());
        place.assert_metrics_recompute().await;
    }
}

/// What somebody wrote last is on its day and is not looked for, unless messages were deleted, and the day was counted anew.
#[tokio::test]
async fn a_day_whose_messages_were_deleted_begins_anew() {
    let place = Place::new().await;
    let mut observer = place.connect().await;
    let mut lane = Lane::new(place.settings.database.clone());
    let today = (clock::now() - NOON) / 86_400;
    let recount = "delete from group_metrics m where not exists (
        select from activity_events a where a.org_id = m.org_id and a.occurred_at::date = m.date)";
    for deletion in ["truncate activity_events", "delete from activity_events where source_id = 11"] {
        let org = create_org(&mut observer).await;
        let events = [(10, 0), (11, today), (12, today), (13, today)].map(|(id, day)| (org, said_on(org, id, 1, day)));
        lane.apply(&facts(&events[..2])).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(format!("{deletion}; {recount}"))).execute(&mut observer).await.unwrap();
        for event in &events[2..] {
            lane.apply(&facts(slice::from_ref(event))).await.unwrap();
            place.assert_metrics_recompute().await;
        }
    }
    sqlx::raw_sql("delete from activity_events where source_id = 10").execute(&mut observer).await.unwrap();
    assert_eq!(count(&mut observer, "participant_groups where newest_message_id is null").await, 0, "for what is old");
}

/// A survivor's place knows what somebody wrote last, but not which of its users it was.
#[tokio::test]
async fn a_day_counts_all_users_of_merged_people() {
    let place = Place::new().await;
    let mut observer = place.connect().await;
    let org = create_org(&mut observer).await;
    let mut lane = Lane::new(place.settings.database.clone());
    let events = [(10, 1, 0), (11, 2, 5), (12, 1, 5), (13, 1, 5), (14, 2, 6), (15, 1, 6), (16, 2, 6)]
        .map(|(id, user, day)| (org, said_on(org, id, user, day)));
    lane.apply(&facts(&events[..2])).await.unwrap();
    let merge = "select merge_participants(s.org_id, s.id, m.id) from participants s, participants m
        where s.tg_user_id = 1 and m.tg_user_id = 2";
    sqlx::raw_sql(merge).execute(&mut observer).await.unwrap();
    for event in &events[2..] {
        lane.apply(&facts(slice::from_ref(event))).await.unwrap();
        place.assert_metrics_recompute().await;
    }
    assert_eq!(count(&mut observer, "group_metrics where dau = 2").await, 2);
}

/// Different people, so that transactions meet in the day, or in the chat alone; who waits there decides by what stands there then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn days_and_chats_are_written_by_one_after_the_other() {
    let titled = |org, id: i64, user: i64, day: i64| {
        let mut update = message(id, user, "hello");
        update["message"]["date"] = (NOON + day * 86_400).into();
        update["message"]["chat"]["title"] = format!("Chat of day {day}").into();
        (org, event(&enveloped(org, &update).1))
    };
    // the days of both, the messages of the second one's day, and the day of the title and of the last event
    for (days, commits, messages, newest) in
        [([8, 8], true, 2, 8), ([8, 8], false, 1, 8), ([8, 7], true, 1, 8), ([8, 7], false, 1, 7), ([7, 8], true, 1, 8)]
    {
        let place = Place::new().await;
        let mut observer = place.connect().await;
        let org = create_org(&mut observer).await;
        let mut lane = Lane::new(place.settings.database.clone());
        let known = [(10, 1, 1), (11, 2, 1)].map(|(id, user, day)| titled(org, id, user, day));
        lane.apply(&facts(&known)).await.unwrap();
        let sql = "insert into group_metrics (org_id, tg_chat_id, date) select org_id, tg_chat_id, date + generate_series(6, 7) from group_metrics";
        sqlx::raw_sql(sql).execute(&mut observer).await.unwrap();

        let events = [titled(org, 20, 1, days[0])];
        let mut connection = database::connect(&place.settings.database).await.unwrap();
        let mut transaction = connection.begin().await.unwrap();
        assert_eq!(apply::apply(&mut transaction, &facts(&events)).await.unwrap(), Applied::default());
        let events = [titled(org, 21, 2, days[1])];
        let other = tokio::spawn(async move { lane.apply(&facts(&events)).await.unwrap() });
        wait_for_waiting(&place, 1).await;
        if commits {
            transaction.commit().await.unwrap();
        } else {
            transaction.rollback().await.unwrap();
        }
        assert_eq!(other.await.unwrap(), Applied { met: true, ..Applied::default() });
        let day = format!(
            "group_metrics where date = '2026-01-0{}' and message_count = {messages} and dau = {messages}",
            1 + days[1]
        );
        assert_eq!(count(&mut observer, &day).await, 1, "{days:?}, {commits}");
        let chat = format!(
            "org_telegram_groups where title = 'Chat of day {newest}' and last_event_at::date = '2026-01-0{}'",
            1 + newest
        );
        assert_eq!(count(&mut observer, &chat).await, 1, "{days:?}, {commits}");
    }
}

/// Somebody new, whom another transaction creates too, is waited for; meanwhile somebody known is edited by a person.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_after_it_was_looked_at_is_looked_at_again() {
    let place = Place::new().await;
    let mut observer = place.connect().await;
    let org = create_org(&mut observer).await;
    let mut lane = Lane::new(place.settings.database.clone());
    let known = [(org, said(org, 10, 2)), (org, said(org, 11, 3))];
    lane.apply(&facts(&known)).await.unwrap();

    let mut other = place.connect().await;
    let mut transaction = other.begin().await.unwrap();
    let create = "insert into participants (org_id, tg_user_id, source) values ($1, 1, 'telegram_group')";
    sqlx::query(create).bind(org).execute(&mut *transaction).await.unwrap();
    let news = [1, 2, 3].map(|user| (org, said(org, 20 + user, user)));
    let second = tokio::spawn(async move { lane.apply(&facts(&news)).await });
    wait_for_waiting(&place, 1).await;
    let edits = "update participants set full_name = 'Ms. Two' where tg_user_id = 2;
        update participant_groups g set first_seen_at = 'epoch' from participants p where p.id = g.participant_id and p.tg_user_id = 3";
    sqlx::raw_sql(edits).execute(&mut observer).await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(second.await.unwrap().unwrap(), Applied { met: true, ..Applied::default() });

    let newest = "extract(epoch from max(last_activity_at))::bigint - extract(epoch from min(last_activity_at))::bigint as spread";
    let people = format!("select count(*), count(*) filter (where full_name = 'Ms. Two'), {newest} from participants");
    let people: (i64, i64, i64) = sqlx::query_as(AssertSqlSafe(people)).fetch_one(&mut observer).await.unwrap();
    assert_eq!(people, (3, 1, 2), "each has the date of the newest message");
    let places = "participant_groups where last_message_at > '2026-01-01 12:00:20+00'";
    assert_eq!(count(&mut observer, places).await, 3);
    assert_eq!(count(&mut observer, "participant_groups where first_seen_at = 'epoch'").await, 1);
    place.assert_metrics_recompute().await;
}

/// Nothing is looked up of people who have just been created; but a person can give somebody's user to somebody else.
#[tokio::test]
async fn what_somebody_new_did_before_is_found() {
    let place = Place::new().await;
    let mut observer = place.connect().await;
    let org = create_org(&mut observer).await;
    let mut lane = Lane::new(place.settings.database.clone());
    let events = [(org, said(org, 10, 1))];
    assert_eq!(lane.apply(&facts(&events)).await.unwrap(), Applied::default());
    let give = "update participants set tg_user_id = 2 where tg_user_id = 1";
    sqlx::raw_sql(give).execute(&mut observer).await.unwrap();
    // the message of before, or another one of the same day, is what is known first of the user now
    lane.apply(&facts(&events)).await.unwrap();
    assert_eq!(count(&mut observer, "activity_events").await, 1);
    // and who has it now has written on no day yet
    lane.apply(&facts(&[(org, said(org, 12, 2))])).await.unwrap();
    place.assert_metrics_recompute().await;
    sqlx::raw_sql("update participants set tg_user_id = 3 where tg_user_id = 1").execute(&mut observer).await.unwrap();
    lane.apply(&facts(&[(org, said(org, 11, 1))])).await.unwrap();
    assert_eq!(count(&mut observer, "activity_events").await, 3);
    assert_eq!(count(&mut observer, "participants").await, 3);
    place.assert_metrics_recompute().await;
}

/// A row is there already for one transaction that begins another one, and both are new for one that has begun the other and waits:
/// who updated what is there before what is new is inserted would be waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_new_to_one_and_known_to_another_is_no_deadlock() {
    // Nothing is news of user 1 but where it was and on which days.
    let before = [(1, 0, 0), (1, 0, 9)];
    let person = "participants (org_id, tg_user_id) select $1, 22 where $2 < 0";
    let user = |user: i64, day| (20 + user, 0, day);
    begin_together(&before, person, [&[user(1, 1), user(2, 1), user(3, 1)], &[user(3, 2)], &[user(1, 3), user(3, 3)]])
        .await;
    let place = "participant_groups (org_id, participant_id, tg_chat_id, first_seen_at)
        select $1, id, $2 + 2, now() from participants";
    let chat = |chat, day| (1, chat, day);
    begin_together(&before, place, [&[chat(1, 1), chat(2, 1), chat(3, 1)], &[chat(3, 2)], &[chat(1, 3), chat(3, 3)]])
        .await;
    let day = "group_metrics (org_id, tg_chat_id, date) values ($1, $2, '2026-01-03')";
    let on = |user, day| (user, 0, day);
    begin_together(&[], day, [&[on(1, 1), on(1, 2), on(1, 3)], &[on(2, 3)], &[on(3, 1), on(3, 3)]]).await;
    let group = "org_telegram_groups (org_id, tg_chat_id) values ($1, $2 + 2)";
    begin_together(&[], group, [&[(1, 1, 1), (1, 2, 1), (1, 3, 1)], &[(2, 3, 2)], &[(3, 1, 3), (3, 3, 3)]]).await;
}

/// Of three transactions the first waits for a row that is held, the second does not, and the third one waits too. Each message is
/// a user, a chat and a day.
async fn begin_together(before: &[(i64, i64, i64)], held: &str, messages: [&[(i64, i64, i64)]; 3]) {
    let place = Place::new().await;
    let mut observer = place.connect().await;
    let org = create_org(&mut observer).await;
    // Also none of the ids is news of where somebody was before.
    let mut update_ids = (1..=100).rev();
    let [before, first, second, third] = [before, messages[0], messages[1], messages[2]].map(|messages| {
        let said = |((user, chat, day), update_id): (&(i64, i64, i64), i64)| {
            let mut update = message(update_id, *user, "hello");
            update["message"]["chat"]["id"] = (CHAT + chat).into();
            update["message"]["date"] = (NOON + day * 86_400).into();
            (org, event(&enveloped(org, &update).1))
        };
        let events: Vec<_> = messages.iter().zip(update_ids.by_ref()).map(said).collect();
        let mut lane = Lane::new(place.settings.database.clone());
        Box::pin(async move { lane.apply(&facts(&events)).await })
    });
    before.await.unwrap();
    let mut holder = observer.begin().await.unwrap();
    let held = sqlx::query(AssertSqlSafe(format!("insert into {held}"))).bind(org).bind(CHAT);
    held.execute(&mut *holder).await.unwrap();
    let first = tokio::spawn(first);
    wait_for_waiting(&place, 1).await;
    second.await.unwrap();
    let third = tokio::spawn(third);
    wait_for_waiting(&place, 2).await;
    holder.rollback().await.unwrap();
    first.await.unwrap().unwrap();
    third.await.unwrap().unwrap();
    place.assert_metrics_recompute().await;
}

/// After a writer met somebody else's transaction, the other one waits for it half a second, also with another organization.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_take_turns_after_they_met_another_replica() {
    const ROUNDS: i64 = 9;
    let place = Place::new().await;
    let mut observer = place.connect().await;
    let (org, quiet) = (create_org(&mut observer).await, create_org(&mut observer).await);
    let replica = Replica::start(&place, &[]);
    let mut waited = Duration::ZERO;
    // What was met is forgotten after 2 s, which a slow machine may need for a round.
    for round in 1..=ROUNDS {
        let mut transaction = observer.begin().await.unwrap();
        apply::apply(&mut transaction, &facts(&[(org, said(org, 2 * round, 1))])).await.unwrap();
        place.publish([enveloped(org, &message(2 * round + 1, 1, "hello"))]).await;
        wait_for_waiting(&place, 1).await;
        let begun = Instant::now();
        place.publish([enveloped(quiet, &message(round, 1, "hello"))]).await;
        let written = u64::try_from(round).unwrap();
        eventually("the other one writes", async || messages_of(&place, quiet).await == written).await;
        waited = begun.elapsed();
        transaction.commit().await.unwrap();
        eventually("it is over", async || messages_of(&place, org).await == 2 * written).await;
        if waited >= Duration::from_millis(500) {
            break;
        }
    }
    assert!(waited >= Duration::from_millis(500), "{waited:?}");
    replica.stop().await;
    place.assert_metrics_recompute().await;
}

/// They take turns as soon as they meet, and go round the partitions apart from each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_work_side_by_side_claim_a_partition_each() {
    const EVENTS: i64 = 51_200;
    let place = Place::new().await;
    let mut observer = place.connect().await;
    let mut orgs = Vec::new();
    for _ in 0..16 {
        orgs.push(create_org(&mut observer).await);
    }
    let bodies = (1..=EVENTS).zip(orgs.iter().cycle());
    place.publish(bodies.map(|(number, org)| enveloped(*org, &message(number, number % 7 + 1, "hello")))).await;
    let small = [("ROLLCALL_BATCH__MAX_TRANSACTION_EVENTS", "100")];
    let replicas = [(); 2].map(|()| Replica::start(&place, &small));
    let claims = format!("(select from {CLAIMS} group by l.pid having count(distinct l.objid) = 1) own");
    eventually("each has one", async || count(&mut place.connect().await, &claims).await >= 2).await;
    eventually("all is written", async || {
        count(&mut place.connect().await, "activity_events").await == EVENTS
            && count(&mut place.connect().await, CLAIMS).await == 0
    })
    .await;
    for replica in replicas {
        replica.stop().await;
    }
    place.assert_metrics_recompute().await;
}

/// Rows that were locked before they were updated look locked ever after, unless one looks whether the transaction goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_gone_is_not_met() {
    let place = Place::new().await;
    let mut observer = place.connect().await;
    let org = create_org(&mut observer).await;
    let mut lane = Lane::new(place.settings.database.clone());
    lane.apply(&facts(&[(org, said(org, 1, 1))])).await.unwrap();
    let mut transaction = observer.begin().await.unwrap();
    apply::apply(&mut transaction, &facts(&[(org, said(org, 2, 1))])).await.unwrap();
    let meets = tokio::spawn(async move { (lane.apply(&facts(&[(org, said(org, 3, 1))])).await.unwrap(), lane) });
    wait_for_waiting(&place, 1).await;
    transaction.commit().await.unwrap();
    let (applied, mut lane) = meets.await.unwrap();
    assert_eq!(applied, Applied { met: true, ..Applied::default() });
    // Any number may stand there: where several locked a row, it is none of a transaction.
    let any = "select rollcall_is_running(number::text::xid) from unnest(array[0, 1, 2, 3, 2147483647, 2147483648, 4294967295]) number";
    sqlx::raw_sql(any).execute(&mut observer).await.unwrap();
    let marked = count(&mut observer, "participants where xmax <> '0'").await;
    assert_eq!(marked, 1, "else the rest of this proves nothing");
    assert_eq!(lane.apply(&facts(&[(org, said(org, 4, 1))])).await.unwrap(), Applied::default());
    place.assert_metrics_recompute().await;
}

/// Whoever was deleted may have left activity behind.
#[tokio::test]
async fn what_somebody_did_who_was_deleted_is_found() {
    let deletions = [
        "delete from participant_groups; delete from participants",
        "truncate participant_groups, participants",
        "truncate participants, participant_groups",
    ];
    for deletion in deletions {
        let place = Place::new().await;
        let mut observer = place.connect().await;
        let org = create_org(&mut observer).await;
        let mut connection = database::connect(&place.settings.database).await.unwrap();
        let events = [(org, said(org, 10, 1)), (org, said(org, 11, 1))];
        apply::apply(&mut connection, &facts(&events[..1])).await.unwrap();
        sqlx::raw_sql(deletion).execute(&mut observer).await.unwrap();
        for events in [&events[..1], &events] {
            apply::apply_again(&mut connection, &facts(events)).await.unwrap();
            assert_eq!(count(&mut observer, "participants").await, 1, "{deletion}");
            place.assert_metrics_recompute().await;
        }
    }
}

/// Who asks first looks for nobody who did what is known, as after a crash, when all of a prefetch comes again; and nothing is written
/// either way.
#[tokio::test]
async fn events_that_were_applied_before_are_recognised() {
    let place = Place::new().await;
    let org = create_org(&mut place.connect().await).await;
    let mut connection = database::connect(&place.settings.database).await.unwrap();
    let mut edit = message(4, 3, "hello there");
    edit["message"]["edit_date"] = (NOON + 9).into();
    edit["message"]["message_id"] = 3.into();
    let edit = json!({ "update_id": 4, "edited_message": edit["message"] });
    let join = json!({ "update_id": 5, "message": { "message_id": 5, "date": NOON, "chat": message(5, 1, "")["message"]["chat"],
        "from": { "id": 9, "is_bot": false }, "new_chat_members": [{ "id": 4, "is_bot": false, "first_name": "Joined" }] } });
    let updates = [message(3, 3, "hello"), message(1, 1, "hello"), message(2, 1, "hello"), edit, join];
    let events: Vec<_> = updates.iter().map(|update| (org, event(&enveloped(org, update).1))).collect();
    let known = Applied { known: true, ..Applied::default() };
    let mut transaction = connection.begin().await.unwrap();
    assert_eq!(apply::apply_again(&mut transaction, &facts(&events)).await.unwrap(), Applied::default());
    transaction.commit().await.unwrap();
    // The original without its edit is known by that.
    for events in [&events[..], &events[..3]] {
        let mut transaction = connection.begin().await.unwrap();
        // Not only of this transaction.
        let counts = "select (sum(idx_scan) filter (where relname like 'participant%'))::bigint,
            sum(n_tup_ins + n_tup_upd)::bigint from pg_stat_xact_user_tables";
        let mut done = Vec::new();
        for asks in [true, false] {
            done.push(sqlx::query_as::<_, (i64, i64)>(counts).fetch_one(&mut *transaction).await.unwrap());
            let facts = facts(events);
            let applied = if asks {
                apply::apply_again(&mut transaction, &facts).await
            } else {
                apply::apply(&mut transaction, &facts).await
            };
            assert_eq!(applied.unwrap(), known);
        }
        done.push(sqlx::query_as(counts).fetch_one(&mut *transaction).await.unwrap());
        assert_eq!(done[0], done[1], "people looked for, rows written");
        assert!(done[1].0 < done[2].0 && done[1].1 == done[2].1, "{done:?}");
    }
    // another bot saw the same, when the name or the title was another one
    for (update_id, field) in [(100, "/from/first_name"), (101, "/chat/title")] {
        let mut copy = message(update_id, 1, "hello");
        copy["message"]["message_id"] = 2.into();
        *copy["message"].pointer_mut(field).unwrap() = "Newer".into();
        let events = [(org, event(&enveloped(org, &copy).1))];
        for applied in [Applied::default(), known.clone()] {
            assert_eq!(apply::apply_again(&mut connection, &facts(&events)).await.unwrap(), applied, "{field}");
        }
    }
    assert_eq!(count(&mut connection, "org_telegram_groups where title = 'Newer'").await, 1);
    let nowhere = Uuid::new_v4();
    let applied = apply::apply_again(&mut connection, &facts(&[(nowhere, said(nowhere, 1, 1))])).await.unwrap();
    assert_eq!(applied.unknown, [nowhere].into());
}

/// As long as a writer's transactions bring nothing new, it asks first.
#[tokio::test]
async fn a_writer_asks_first_when_events_come_again() {
    let place = Place::new().await;
    let mut observer = place.connect().await;
    let org = create_org(&mut observer).await;
    let mut lane = Lane::new(place.settings.database.clone());
    let events: Vec<_> = (1..=40).map(|update_id| (org, said(org, update_id, update_id))).collect();
    let (before, new) = events.split_at(20);
    let known = Applied { known: true, ..Applied::default() };
    for (events, applied, asks) in [
        (before, Applied::default(), false),
        (before, known.clone(), false),
        (before, known.clone(), true),
        (&before[..3], known.clone(), false),
        (before, known.clone(), true),
        (new, Applied::default(), false),
        (before, known.clone(), false),
        (new, known, true),
    ] {
        assert_eq!(lane.apply(&facts(events)).await.unwrap(), applied);
        let last = "select query like '%rollcall_are_known%' from pg_stat_activity
            where datname = current_database() and application_name = 'rollcall' and pid <> pg_backend_pid()";
        let asked: Vec<bool> = sqlx::query_scalar(last).fetch_all(&mut observer).await.unwrap();
        assert_eq!(asked, [asks]);
    }
    place.assert_metrics_recompute().await;
}

/// Of one message: by two bots, edited in the second in which it was sent and before it was sent, with and without what it replies to and the
/// chat's title. Any two give the same rows, one after the other, the other way round, and together after one of them, asked for first or not.
#[tokio::test]
async fn what_is_told_of_a_message_adds_up_in_any_order() {
    const SENT: i64 = 10;
    let place = Place::new().await;
    let mut connection = database::connect(&place.settings.database).await.unwrap();
    let told = |update_id: i64, edited: Option<i64>, reply: Option<i64>| {
        let mut told = message(update_id, 1, "hello")["message"].take();
        told["message_id"] = SENT.into();
        told["date"] = (NOON + SENT).into();
        told["from"]["first_name"] = format!("Seen in {update_id}").into();
        told["chat"]["title"] = format!("Seen in {update_id}").into();
        if update_id == 50 {
            told["chat"].as_object_mut().unwrap().remove("title");
        }
        if let Some(reply) = reply {
            told["reply_to_message"] = json!({ "message_id": reply });
        }
        let Some(edited) = edited else { return json!({ "update_id": update_id, "message": told }) };
        told["text"] = format!("edited in {update_id}").into();
        told["edit_date"] = (NOON + edited).into();
        json!({ "update_id": update_id, "edited_message": told })
    };
    let updates = [
        told(20, None, None),
        told(40, None, None),
        told(30, Some(SENT), None),
        told(50, Some(SENT + 1), None),
        told(10, Some(SENT), Some(7)),
        told(60, Some(SENT - 1), Some(8)),
        told(15, Some(SENT + 1), Some(9)),
    ];
    for (index, one) in updates.iter().enumerate() {
        for other in &updates[..index] {
            let mut rows: Vec<String> = Vec::new();
            let ways = [
                [vec![one], vec![other]],
                [vec![other], vec![one]],
                [vec![one], vec![one, other]],
                [vec![other], vec![one, other]],
            ];
            for (ways, asks) in ways.iter().flat_map(|ways| [(ways, false), (ways, true)]) {
                let org = create_org(&mut connection).await;
                for updates in ways {
                    let events: Vec<_> = updates.iter().map(|update| (org, event(&enveloped(org, update).1))).collect();
                    let facts = facts(&events);
                    if asks {
                        apply::apply_again(&mut connection, &facts).await.unwrap();
                    } else {
                        apply::apply(&mut connection, &facts).await.unwrap();
                    }
                }
                let written = "select jsonb_agg((to_jsonb(p) || to_jsonb(g) || to_jsonb(a) || to_jsonb(c))
                        - '{id,org_id,participant_id,created_at,updated_at,recorded_at}'::text[])::text
                    from participants p join participant_groups g on g.participant_id = p.id
                    join activity_events a on a.participant_id = p.id join org_telegram_groups c on c.org_id = p.org_id
                    where p.org_id = $1";
                rows.push(sqlx::query_scalar(written).bind(org).fetch_one(&mut connection).await.unwrap());
            }
            assert!(rows.iter().all(|row| *row == rows[0]), "{one}\n{other}\n{rows:#?}");
        }
    }
    place.assert_metrics_recompute().await;
}

/// An upgrade finds the organizations whose people were merged before, and those with activity of nobody.
#[tokio::test]
async fn an_upgrade_marks_organizations() {
    const MARKS: i64 = 20_261_126_000_400;
    let place = Place::unmigrated().await;
    let mut observer = place.connect().await;
    let before = MIGRATOR.iter().filter(|migration| migration.version < MARKS).cloned().collect();
    Migrator::with_migrations(before).run(&mut observer).await.unwrap();
    let orgs = [create_org(&mut observer).await, create_org(&mut observer).await, create_org(&mut observer).await];
    for (org, people, users) in [(orgs[0], 3, 3), (orgs[1], 3, 3), (orgs[2], 2, 3)] {
        let rows = "with people as (
                insert into participants (org_id, tg_user_id) select $1, generate_series(1, $2))
            insert into activity_events (org_id, tg_chat_id, event_type, source_id, tg_user_id, participant_id, occurred_at,
                                         content_at, content_update_id)
                select $1, -1, 'message', source_id, tg_user_id, gen_random_uuid(), 'epoch', 'epoch', 0
                from generate_series(1, $3) tg_user_id, generate_series(1, 2) source_id";
        sqlx::query(rows).bind(org).bind(people).bind(users).execute(&mut observer).await.unwrap();
    }
    let merge = "update participants m set merged_into = s.id from participants s
        where m.org_id = $1 and s.org_id = $1 and m.tg_user_id = 2 and s.tg_user_id = 1";
    sqlx::query(merge).bind(orgs[0]).execute(&mut observer).await.unwrap();

    MIGRATOR.run(&mut observer).await.unwrap();
    let marks = "select has_merged_people, has_unclaimed_activity from organizations
        order by array_position($1, id)";
    let marks: Vec<(bool, bool)> = sqlx::query_as(marks).bind(&orgs[..]).fetch_all(&mut observer).await.unwrap();
    assert_eq!(marks, [(true, false), (false, false), (false, true)]);
}

/// Writers of several replicas keep to partitions of their own.
#[tokio::test]
async fn a_partition_is_claimed_by_one_until_its_next_call() {
    let place = Place::new().await;
    let mut observer = place.connect().await;
    let org = create_org(&mut observer).await;
    let mut numbers = 1..100;
    let mut apply = async |lane: &mut Lane, partitions: &[i32], claims| {
        let events = [(org, said(org, numbers.next().unwrap(), 1))];
        let wanted = Wanted { partitions: partitions.to_vec(), claims };
        let Applied { others, .. } = lane.apply_and_claim(&facts(&events), &wanted).await.unwrap();
        (lane.claimed(), others)
    };
    let lane = || Lane::new(place.settings.database.clone());
    let [mut one, mut other, mut third] = [lane(), lane(), lane()];
    assert_eq!(apply(&mut one, &[0, 1], false).await, (None, false), "only looks");
    assert_eq!(apply(&mut one, &[0, 1], true).await, (Some(0), false));
    assert_eq!(apply(&mut other, &[1, 0], false).await, (None, true));
    assert_eq!(apply(&mut other, &[0, 1], true).await, (Some(1), true));
    assert_eq!(apply(&mut third, &[0, 1], true).await, (None, true), "nothing is free");
    assert_eq!(apply(&mut one, &[1, 0], true).await, (Some(0), true), "its own is free to it");
    assert_eq!(apply(&mut one, &[2], true).await, (Some(2), false));
    assert_eq!(apply(&mut third, &[0, 1], true).await, (Some(0), false), "it was given back for another");
    assert_eq!(apply(&mut other, &[], false).await, (None, false));
    assert_eq!(apply(&mut one, &[1], true).await, (Some(1), false), "it was given back by a call");
    one.give_back().await;
    assert_eq!(apply(&mut other, &[1, 2], true).await, (Some(1), false), "it was given back between calls");

    assert_eq!(apply(&mut third, &[3], true).await, (Some(3), false));
    sqlx::raw_sql("alter table activity_events add check (source_id <> 100)").execute(&mut observer).await.unwrap();
    let wanted = Wanted { partitions: vec![4], claims: true };
    third.apply_and_claim(&facts(&[(org, said(org, 100, 1))]), &wanted).await.unwrap_err();
    assert_eq!((third.claimed(), apply(&mut other, &[3, 4], true).await), (None, (Some(3), false)), "by a fault");
    drop(other);
    eventually("with its connection", async || count(&mut place.connect().await, CLAIMS).await == 0).await;
}

/// Replicas of the version before go on while they are replaced.
#[tokio::test]
async fn the_former_call_is_answered() {
    let place = Place::new().await;
    let mut observer = place.connect().await;
    let org = create_org(&mut observer).await;
    let call = include_str!("former_call.sql");
    for is_known in [false, true] {
        let answer: (Option<Vec<Uuid>>, Option<Vec<Uuid>>, bool, bool) =
            sqlx::query_as(call).bind(org).fetch_one(&mut observer).await.unwrap();
        assert_eq!(answer, (None, None, false, is_known));
    }
    let rows = "select count(*), count(distinct participant_id), count(distinct g.tg_chat_id)
        from activity_events a join participant_groups g using (org_id, participant_id, tg_chat_id)";
    let rows: (i64, i64, i64) = sqlx::query_as(rows).fetch_one(&mut observer).await.unwrap();
    assert_eq!(rows, (4, 2, 2));
    place.assert_metrics_recompute().await;
}

/// Two transactions that lock rows in different orders can wait for each other for ever.
#[tokio::test]
async fn rows_are_written_in_the_order_of_their_keys() {
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let orgs = [create_org(&mut connection).await, create_org(&mut connection).await];
    // 7 and 300 have no common divisor: all users, and not in order
    let numbers = (0..300).map(|number| (number, number * 7 % 300 + 1));
    let events: Vec<_> =
        numbers.flat_map(|(number, user)| orgs.map(|org| (org, said(org, number + 1, user)))).collect();
    let mut lane = Lane::new(place.settings.database.clone());
    assert_eq!(lane.apply(&facts(&events)).await.unwrap(), Applied::default());
    for (table, key) in [
        ("participants", "org_id, tg_user_id"),
        ("activity_events", "org_id, tg_user_id, tg_chat_id, event_type, source_id"),
        ("group_metrics", "org_id, tg_chat_id, date"),
        ("org_telegram_groups", "org_id, tg_chat_id"),
        // in the order of the people
        ("participant_groups g join participants p on p.id = g.participant_id", "p.org_id, p.tg_user_id, g.tg_chat_id"),
    ] {
        let at = if table.starts_with("participant_groups") { "g.ctid" } else { "ctid" };
        let query = format!(
            "select count(*), count(*) filter (where by_key <> by_place) from (
                select row_number() over (order by {key}) as by_key, row_number() over (order by {at}) as by_place from {table}
            ) n"
        );
        let query = sqlx::query_as(AssertSqlSafe(query));
        let (rows, misplaced): (i64, i64) = query.fetch_one(&mut connection).await.unwrap();
        assert!(rows >= 2 && misplaced == 0, "{table}: {misplaced} of {rows} are elsewhere");
    }
}

/// No statistics are there, as before the first autovacuum.
#[tokio::test]
async fn plans_that_were_made_on_empty_tables_read_no_more_than_they_need() {
    let place = Place::new().await;
    let mut observer = place.connect().await;
    let org = create_org(&mut observer).await;
    let mut connection = database::connect(&place.settings.database).await.unwrap();
    apply::apply(&mut connection, &facts(&[(org, said(org, 1, 1))])).await.unwrap();
    let crowd: Vec<_> = (2..3000).map(|number| (org, said(org, number, number))).collect();
    apply::apply(&mut connection, &facts(&crowd)).await.unwrap();
    sqlx::raw_sql(
        "insert into participants (org_id, tg_user_id, merged_into)
            select org_id, tg_user_id + 10000, id from participants where tg_user_id % 2 = 0",
    )
    .execute(&mut observer)
    .await
    .unwrap();

    // known ones, merged ones and new ones, and what came before
    let users = (100..150).chain(10_100..10_150).chain(20_000..20_050);
    let mut events: Vec<_> = users.zip(5000..).map(|(user, update_id)| (org, said(org, update_id, user))).collect();
    events.extend((2..52).map(|number| (org, said(org, number, number))));
    let mut transaction = connection.begin().await.unwrap();
    apply::apply(&mut transaction, &facts(&events)).await.unwrap();
    let read =
        "select sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint from pg_stat_xact_user_tables";
    let read: i64 = sqlx::query_scalar(read).fetch_one(&mut *transaction).await.unwrap();
    let most = i64::try_from(events.len()).unwrap() * 20;
    assert!((1..most).contains(&read), "{read} rows were read for {} events", events.len());
}
