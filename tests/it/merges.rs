//! People are merged while their messages come in: nobody comes back as a second row.

use std::collections::HashSet;

use rollcall::{apply::Lane, decode::Event};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::support::{
    Place,
    community::{CHAT, NOON, create_org, enveloped, event, message},
    eventually,
};

fn said(org: Uuid, update_id: i64, user: i64) -> Event<'static> {
    event(&enveloped(org, &message(update_id, user, "hello")).1)
}

/// Applies an event as a writer does: what is busy is tried again.
async fn apply(lane: &mut Lane, org: Uuid, event: &Event<'_>) {
    let facts: Vec<_> = event.facts.iter().map(|fact| (org, fact)).collect();
    loop {
        let applied = lane.apply(&facts).await.unwrap();
        assert!(applied.unknown.is_empty());
        if applied.busy.is_empty() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

async fn participant(connection: &mut PgConnection, org: Uuid, user: i64) -> Uuid {
    let query =
        sqlx::query_scalar("select id from participants where org_id = $1 and tg_user_id = $2 and merged_into is null");
    query.bind(org).bind(user).fetch_one(connection).await.unwrap()
}

async fn create_manually(connection: &mut PgConnection, org: Uuid) -> Uuid {
    let query = sqlx::query_scalar("insert into participants (org_id, full_name) values ($1, 'Survivor') returning id");
    query.bind(org).fetch_one(connection).await.unwrap()
}

async fn merge(connection: &mut PgConnection, org: Uuid, survivor: Uuid, duplicate: Uuid) -> sqlx::Result<()> {
    let query = sqlx::query("select merge_participants($1, $2, $3)").bind(org).bind(survivor).bind(duplicate);
    query.execute(connection).await.map(|_| ())
}

/// What must hold of merged people at any time.
async fn assert_sound(connection: &mut PgConnection) {
    for (claim, query) in [
        (
            "a merged user has no second row",
            "select count(*) from participants m join participants p using (org_id, tg_user_id) where m.merged_into is not null and p.merged_into is null",
        ),
        (
            "no survivor is merged itself",
            "select count(*) from participants m join participants p on p.org_id = m.org_id and p.id = m.merged_into where p.merged_into is not null",
        ),
        (
            "no activity stays with the merged",
            "select count(*) from activity_events a join participants p on p.org_id = a.org_id and p.id = a.participant_id where p.merged_into is not null",
        ),
        (
            "no membership stays with the merged",
            "select count(*) from participant_groups g join participants p on p.org_id = g.org_id and p.id = g.participant_id where p.merged_into is not null",
        ),
        (
            "every activity has its participant and membership",
            "select count(*) from activity_events a left join participant_groups g using (org_id, participant_id, tg_chat_id) where g.org_id is null",
        ),
    ] {
        let broken: i64 = sqlx::query_scalar(query).fetch_one(&mut *connection).await.unwrap();
        assert_eq!(broken, 0, "{claim}");
    }
}

/// So many organizations need nearly all locks there are: the one that somebody else holds, none of them has, or one of them has.
#[tokio::test]
async fn who_merges_people_elsewhere_delays_nobody() {
    const ELSEWHERE: i32 = 7;
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let mut holder = place.connect().await;
    let mut lane = Lane::new(place.settings.database.clone());
    for number in [20, 200, 300, 600] {
        let create = "insert into organizations (id, name) select id, 'Organization'
            from (select gen_random_uuid() as id from generate_series(1, $1 * 2) offset 0) n
            where rollcall_resolver_slot(id) <> $2 limit $1 returning id, rollcall_resolver_slot(id)";
        let orgs: Vec<(Uuid, i32)> =
            sqlx::query_as(create).bind(number).bind(ELSEWHERE).fetch_all(&mut connection).await.unwrap();
        let written = "select count(*) from activity_events where source_id = $1 and org_id = any ($2)";
        let all: Vec<Uuid> = orgs.iter().map(|(org, _)| *org).collect();
        for (message, held) in [(1, ELSEWHERE), (2, orgs[0].1)] {
            let events: Vec<_> = orgs.iter().map(|(org, _)| (*org, said(*org, message, 1))).collect();
            let facts: Vec<_> =
                events.iter().flat_map(|(org, event)| event.facts.iter().map(|fact| (*org, fact))).collect();
            let mut transaction = holder.begin().await.unwrap();
            let lock = sqlx::query("select pg_advisory_xact_lock(1919904876, $1)").bind(held);
            lock.execute(&mut *transaction).await.unwrap();
            let busy = lane.apply(&facts).await.unwrap().busy;
            transaction.rollback().await.unwrap();
            let waiting: HashSet<_> = orgs.iter().filter(|(_, slot)| *slot == held).map(|(org, _)| *org).collect();
            assert_eq!(busy, waiting, "of {number}");
            let written: i64 =
                sqlx::query_scalar(written).bind(message).bind(&all).fetch_one(&mut connection).await.unwrap();
            assert_eq!(usize::try_from(written).unwrap() + busy.len(), orgs.len(), "of {number}");
        }
    }
}

#[tokio::test]
async fn who_merges_people_needs_no_right_to_organizations() {
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let org = create_org(&mut connection).await;
    let mut lane = Lane::new(place.settings.database.clone());
    for user in [1, 2] {
        apply(&mut lane, org, &said(org, user, user)).await;
    }
    let (survivor, duplicate) =
        (participant(&mut connection, org, 1).await, participant(&mut connection, org, 2).await);
    // Taken back, as roles are of the whole server.
    let mut transaction = connection.begin().await.unwrap();
    let rights = "create role rollcall_test_support;
        grant select, update on participants, activity_events to rollcall_test_support;
        grant select, insert, update, delete on participant_groups to rollcall_test_support;
        set local role rollcall_test_support";
    sqlx::raw_sql(rights).execute(&mut *transaction).await.unwrap();
    merge(&mut transaction, org, survivor, duplicate).await.unwrap();
    sqlx::raw_sql("reset role").execute(&mut *transaction).await.unwrap();
    let is_marked = sqlx::query_scalar::<_, bool>("select has_merged_people from organizations where id = $1");
    assert!(is_marked.bind(org).fetch_one(&mut *transaction).await.unwrap());
    transaction.rollback().await.unwrap();
}

#[tokio::test]
async fn activity_of_a_merged_user_lands_at_the_survivor() {
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let org = create_org(&mut connection).await;
    let mut lane = Lane::new(place.settings.database.clone());
    apply(&mut lane, org, &said(org, 100, 1)).await;
    apply(&mut lane, org, &said(org, 200, 2)).await;
    let (duplicate, survivor) =
        (participant(&mut connection, org, 1).await, participant(&mut connection, org, 2).await);
    merge(&mut connection, org, survivor, duplicate).await.unwrap();
    assert_sound(&mut connection).await;

    for update_id in [300, 50] {
        apply(&mut lane, org, &said(org, update_id, 1)).await;
    }
    assert_sound(&mut connection).await;
    let query = "select count(*), count(distinct participant_id), count(distinct tg_user_id) from activity_events";
    let counted: (i64, i64, i64) = sqlx::query_as(query).fetch_one(&mut connection).await.unwrap();
    assert_eq!(counted, (4, 1, 2));
    let query = "select extract(epoch from first_seen_at)::bigint, extract(epoch from last_activity_at)::bigint, full_name from participants where id = $1";
    let row: (i64, i64, String) = sqlx::query_as(query).bind(survivor).fetch_one(&mut connection).await.unwrap();
    assert_eq!(row, (NOON + 50, NOON + 300, "First 2".into()), "times grow, the profile stays");
    let query = "select extract(epoch from first_seen_at)::bigint, extract(epoch from last_message_at)::bigint from participant_groups where participant_id = $1 and tg_chat_id = $2";
    let row: (i64, i64) = sqlx::query_as(query).bind(survivor).bind(CHAT).fetch_one(&mut connection).await.unwrap();
    assert_eq!(row, (NOON + 50, NOON + 300));
    place.assert_metrics_recompute().await;
}

#[tokio::test]
async fn survivors_without_a_user_id_grow_too_and_the_smallest_id_wins() {
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let org = create_org(&mut connection).await;
    let mut survivors = [create_manually(&mut connection, org).await, create_manually(&mut connection, org).await];
    survivors.sort();
    for survivor in survivors {
        sqlx::query("insert into participants (org_id, tg_user_id, merged_into) values ($1, 7, $2)")
            .bind(org)
            .bind(survivor)
            .execute(&mut connection)
            .await
            .unwrap();
    }
    let mut lane = Lane::new(place.settings.database.clone());
    apply(&mut lane, org, &said(org, 10, 7)).await;
    apply(&mut lane, org, &said(org, 10, 7)).await;
    let owners: Vec<Uuid> =
        sqlx::query_scalar("select participant_id from activity_events").fetch_all(&mut connection).await.unwrap();
    assert_eq!(owners, [survivors[0]]);
    let query = "select extract(epoch from last_activity_at)::bigint, full_name from participants where id = $1";
    let row: (i64, String) = sqlx::query_as(query).bind(survivors[0]).fetch_one(&mut connection).await.unwrap();
    assert_eq!(row, (NOON + 10, "Survivor".into()));
    assert_sound(&mut connection).await;
}

#[tokio::test]
async fn a_survivor_and_those_merged_into_it_fit_one_batch() {
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let org = create_org(&mut connection).await;
    let mut lane = Lane::new(place.settings.database.clone());
    for user in 1..=3 {
        apply(&mut lane, org, &said(org, user, user)).await;
    }
    let survivor = participant(&mut connection, org, 1).await;
    for user in 2..=3 {
        let duplicate = participant(&mut connection, org, user).await;
        merge(&mut connection, org, survivor, duplicate).await.unwrap();
    }
    let events: Vec<_> = (1..=3).map(|user| said(org, 100 + user, user)).collect();
    let facts: Vec<_> = events.iter().flat_map(|event| &event.facts).map(|fact| (org, fact)).collect();
    lane.apply(&facts).await.unwrap();
    assert_sound(&mut connection).await;
    let rows: Vec<(i64, String)> = sqlx::query_as(
        "select extract(epoch from last_activity_at)::bigint, full_name from participants where merged_into is null",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert_eq!(rows, [(NOON + 103, "First 1".into())]);
}

#[tokio::test]
async fn merging_is_checked_and_repeatable() {
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let (org, other) = (create_org(&mut connection).await, create_org(&mut connection).await);
    let mut people = Vec::new();
    for _ in 0..3 {
        people.push(create_manually(&mut connection, org).await);
    }
    let stranger = create_manually(&mut connection, other).await;
    merge(&mut connection, org, people[1], people[0]).await.unwrap();
    merge(&mut connection, org, people[1], people[0]).await.unwrap();
    for (survivor, duplicate, part) in [
        (people[0], people[2], "is merged itself"),
        (people[2], people[0], "already merged"),
        (people[2], people[2], "into itself"),
        (people[2], stranger, "no participant"),
        (stranger, people[2], "no participant"),
    ] {
        let error = merge(&mut connection, org, survivor, duplicate).await.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    merge(&mut connection, org, people[2], people[1]).await.unwrap();
    assert_sound(&mut connection).await;
}

/// The merge is open when the resolver comes.
#[tokio::test]
async fn a_resolver_waits_for_an_open_merge() {
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let org = create_org(&mut connection).await;
    let survivor = create_manually(&mut connection, org).await;
    let mut lane = Lane::new(place.settings.database.clone());
    for user in 1..=200 {
        apply(&mut lane, org, &said(org, user, user)).await;
        let duplicate = participant(&mut connection, org, user).await;
        let mut merging = connection.begin().await.unwrap();
        merge(&mut merging, org, survivor, duplicate).await.unwrap();
        let news = said(org, 1000 + user, user);
        let facts: Vec<_> = news.facts.iter().map(|fact| (org, fact)).collect();
        let applied = lane.apply(&facts).await.unwrap();
        assert!(applied.busy.contains(&org), "nothing may be written while the merge is open");
        merging.commit().await.unwrap();
        apply(&mut lane, org, &news).await;
    }
    assert_sound(&mut connection).await;
    let counted: (i64, i64) = sqlx::query_as("select count(*), count(distinct participant_id) from activity_events")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(counted, (400, 1));
}

/// The resolver is open when the merge comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_waits_for_an_open_resolver() {
    let place = Place::new().await;
    let (mut connection, mut blocker, mut merger) =
        (place.connect().await, place.connect().await, place.connect().await);
    let org = create_org(&mut connection).await;
    let survivor = create_manually(&mut connection, org).await;
    let mut lane = Lane::new(place.settings.database.clone());
    apply(&mut lane, org, &said(org, 1, 1)).await;
    let duplicate = participant(&mut connection, org, 1).await;

    // The resolver stops at its last statement, with everything else written.
    let mut blocking = blocker.begin().await.unwrap();
    sqlx::query("lock table org_telegram_groups in exclusive mode").execute(&mut *blocking).await.unwrap();
    let resolving = tokio::spawn(async move { apply(&mut lane, org, &said(org, 2, 1)).await });
    let waiting = "select count(*) from pg_locks where database = (select oid from pg_database where datname = current_database()) and not granted";
    eventually("the resolver is at its last statement", async || {
        let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&mut place.connect().await).await.unwrap();
        waiting == 1
    })
    .await;
    let merging = tokio::spawn(async move { merge(&mut merger, org, survivor, duplicate).await.unwrap() });
    eventually("the merge waits", async || {
        let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&mut place.connect().await).await.unwrap();
        waiting == 2
    })
    .await;
    blocking.commit().await.unwrap();
    resolving.await.unwrap();
    merging.await.unwrap();
    assert_sound(&mut connection).await;
    let counted: (i64, i64) =
        sqlx::query_as("select count(*), count(*) filter (where participant_id = $1) from activity_events")
            .bind(survivor)
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert_eq!(counted, (2, 2));
}

/// Merges and two resolvers at full speed, in whatever order the server lets them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merges_and_resolvers_race() {
    const USERS: i64 = 300;
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let org = create_org(&mut connection).await;
    let mut lane = Lane::new(place.settings.database.clone());
    let first: Vec<_> = (1..=USERS).map(|user| said(org, user, user)).collect();
    let facts: Vec<_> = first.iter().flat_map(|event| &event.facts).map(|fact| (org, fact)).collect();
    lane.apply(&facts).await.unwrap();

    let mut merger = place.connect().await;
    let merging = tokio::spawn(async move {
        for user in 1..USERS {
            let (survivor, duplicate) =
                (participant(&mut merger, org, user + 1).await, participant(&mut merger, org, user).await);
            merge(&mut merger, org, survivor, duplicate).await.unwrap();
        }
    });
    let resolving = [1000, 2000].map(|base| {
        let mut lane = Lane::new(place.settings.database.clone());
        tokio::spawn(async move {
            for user in 1..=USERS {
                apply(&mut lane, org, &said(org, base + user, user)).await;
            }
        })
    });
    merging.await.unwrap();
    for task in resolving {
        task.await.unwrap();
    }
    assert_sound(&mut connection).await;
    let counted: (i64, i64) = sqlx::query_as("select count(*), count(distinct participant_id) from activity_events")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(counted, (3 * USERS, 1), "all activity of all merged people is at the last survivor");
    place.assert_metrics_recompute().await;
}

#[tokio::test]
async fn an_edited_name_is_left_alone_for_good() {
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let org = create_org(&mut connection).await;
    let mut lane = Lane::new(place.settings.database.clone());
    apply(&mut lane, org, &said(org, 10, 1)).await;
    sqlx::query("update participants set full_name = 'Ms. One'").execute(&mut connection).await.unwrap();
    let mut renamed = message(20, 1, "hello");
    renamed["message"]["from"]["first_name"] = "Renamed".into();
    apply(&mut lane, org, &event(&enveloped(org, &renamed).1)).await;
    let row: (String, String, String) =
        sqlx::query_as("select full_name, tg_full_name, tg_first_name from participants")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert_eq!(row, ("Ms. One".into(), "First 1".into(), "Renamed".into()));
}

#[tokio::test]
async fn an_organization_with_activity_is_not_deleted_by_mistake() {
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let org = create_org(&mut connection).await;
    let mut lane = Lane::new(place.settings.database.clone());
    apply(&mut lane, org, &said(org, 10, 1)).await;
    let delete = |table: &'static str| match table {
        "activity_events" => "delete from activity_events",
        "group_metrics" => "delete from group_metrics",
        "participant_groups" => "delete from participant_groups",
        "participants" => "delete from participants",
        "org_telegram_groups" => "delete from org_telegram_groups",
        _ => "delete from organizations",
    };
    let error = sqlx::query(delete("organizations")).execute(&mut connection).await.unwrap_err();
    assert_eq!(error.as_database_error().unwrap().code().unwrap(), "23503");
    for table in ["activity_events", "group_metrics", "participant_groups", "participants", "org_telegram_groups", ""] {
        sqlx::query(delete(table)).execute(&mut connection).await.unwrap();
    }
    let news = said(org, 20, 1);
    let facts: Vec<_> = news.facts.iter().map(|fact| (org, fact)).collect();
    assert!(lane.apply(&facts).await.unwrap().unknown.contains(&org));
}

#[tokio::test]
async fn participants_belong_to_an_organization() {
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let org = create_org(&mut connection).await;
    let insert = "insert into participants (org_id, full_name) values ($1, 'Guest')";
    sqlx::query(insert).bind(org).execute(&mut connection).await.unwrap();
    let nobody = Uuid::new_v4();
    for astray in [insert, "update participants set org_id = $1"] {
        let error = sqlx::query(astray).bind(nobody).execute(&mut connection).await.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().code().unwrap(), "23503");
    }
    sqlx::query("delete from org_telegram_groups").execute(&mut connection).await.unwrap();
    let error = sqlx::query("delete from organizations").execute(&mut connection).await.unwrap_err();
    assert_eq!(error.as_database_error().unwrap().code().unwrap(), "23503");
    let guests: i64 = sqlx::query_scalar("select count(*) from participants").fetch_one(&mut connection).await.unwrap();
    assert_eq!(guests, 1);
}
