//! Lists look at about as many rows as they return, however many there are: a test counts the blocks that they read.

use chrono::{DateTime, Utc};
use engine::{AuditFilter, DeadJobFilter, Page, SagaFilter, Status};
use shop::{
    audit,
    mail::Mailer,
    notifications::{self, NotificationStatus},
    orders::{self, OrderFilter, OrderStatus},
    sagas::Settings,
};
use sqlx::{Executor, PgPool};
use uuid::Uuid;

use super::{blocks::blocks_read, engine};
use crate::support::{Database, Process, as_owner};

/// Of the many rows, a look at all would read thousands of blocks.
const MANY: &str = "20000";
const FEW_BLOCKS: i64 = 1000;

/// Lists the sagas in batches as if they had been started at the times that they have now.
const LIST_STARTS: &str = "delete from engine.start_batch;
    insert into engine.start_batch (definition, started_at, saga_ids)
    select definition, created_at, array_agg(id) from engine.saga group by definition, created_at;";

/// A list with its tables and the number of its first page's items.
struct Case {
    list: List,
    tables: &'static [&'static str],
    items: usize,
}

#[derive(Clone, Debug)]
enum List {
    Sagas(SagaFilter),
    DeadJobs(DeadJobFilter),
    Archive(DeadJobFilter),
    EngineAudit(AuditFilter),
    Audit(audit::Filter),
    Orders(OrderFilter),
    Notifications(NotificationStatus),
}

impl List {
    /// Reads the first page, and returns how many items it has.
    async fn read(&self, pool: PgPool) -> usize {
        let mails = tempfile::tempdir().unwrap();
        let settings = Settings::new(Mailer::files(mails.path(), "shop@example.com").unwrap());
        let (engine, page) = (engine(pool.clone(), settings), Page { after: None, limit: 50 });
        let items = match self {
            Self::Sagas(filter) => engine.sagas(filter, page).await.unwrap().items.len(),
            Self::DeadJobs(filter) => engine.dead_jobs(filter, page).await.unwrap().items.len(),
            Self::Archive(filter) => engine.archived_dead_jobs(filter, page).await.unwrap().items.len(),
            Self::EngineAudit(filter) => engine.audit(filter, None, 50).await.unwrap().items.len(),
            Self::Audit(filter) => audit::list(&pool, filter, None, 50).await.unwrap().items.len(),
            Self::Orders(filter) => orders::list(&pool, filter, page).await.unwrap().items.len(),
            Self::Notifications(status) => {
                notifications::list(&pool, *status, page).await.unwrap().items.len()
            }
        };
        engine.shutdown().await;
        pool.close().await;
        items
    }
}

/// A database with many rows of one kind, and among them the few that the lists below look for.
async fn filled() -> (Database, Uuid) {
    let database = Database::fresh().await;
    let env = [("DATABASE_URL", database.owner_url()), ("SMTP_URL", "smtp://127.0.0.1:1".into())];
    let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut fill = Process::sagaline(&["bench", "fill", "--sagas", "60000", "--detailed", "100"], &env);
    assert!(fill.wait().await.success(), "{}", fill.output());
    let pool = database.owner_pool().await;
    let some: Uuid = sqlx::query_scalar("select id from engine.saga order by id offset 30000 limit 1")
        .fetch_one(&pool)
        .await
        .unwrap();
    let rare = format!(
        "update engine.saga set definition = 'rare' where id = '{some}';
         update engine.saga set status = 'dead', ended_at = null where id = (select id from engine.saga order by id offset 9 limit 1);
         update engine.saga set status = 'running', waits_for = 'version', ended_at = null
             where id = (select id from engine.saga order by id offset 19 limit 1);
         update engine.saga s set parent_id = '{some}', root_id = '{some}', parent_step = 'each', parent_round = 0,
                 parent_position = old.nth, depth = 1
             from (select id, row_number() over (order by id) as nth
                 from (select id from engine.saga order by id offset 100 limit 30) oldest) old
             where s.id = old.id;
         insert into engine.dead_job (id, saga_id, definition, queue, step, direction, attempts, error, errors, payload,
                 first_failed_at, resolution, resolved_at)
             select ('0198c0de-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, gen_random_uuid(),
                 case when n = 7 then 'rare' else 'usual' end, 'default', case when n = 7 then 'rare' else 'usual' end, 'action',
                 1, repeat('e', 200), '[]', '{{}}', now(), case when n <> 7 then 'retried' end, case when n <> 7 then now() end
             from generate_series(1, {MANY}) n;
         insert into engine.dead_job_archive (id, saga_id, definition, queue, step, direction, attempts, error, errors, payload,
                 first_failed_at, died_at, why)
             select id, saga_id, definition, queue, step, direction, 1, error, errors, payload, now(), now(), 'expired'
             from engine.dead_job;
         insert into engine.audit (at, actor, action, saga_id, reason)
             select now() - n * interval '1 minute', 'ann', 'cancel', case when n = 7 then '{some}' else gen_random_uuid() end, ''
             from generate_series(1, {MANY}) n;
         insert into shop.audit (at, actor, action, subject_kind, subject_id)
             select now() - n * interval '1 minute', 'ann', case when n = 15000 then 'queue.pause' else 'order.place' end,
                 case when n = 15000 then 'queue' else 'order' end, gen_random_uuid()::text
             from generate_series(1, {MANY}) n;
         update engine.dead_job set saga_id = (select id from engine.saga where definition = 'place-order' order by id offset 20 limit 1)
             where resolution is null;
         update shop.orders set status = 'pending'
             where workflow_id = (select saga_id from engine.dead_job where resolution is null);
         update shop.orders set status = 'rejected' where order_id = (select order_id from shop.orders order by order_id offset 30 limit 1);
         update shop.notification set status = 'sending'
             where notification_id = (select id from engine.saga where waits_for is not null);
         update shop.notification set status = 'failed'
             where notification_id = (select notification_id from shop.notification order by notification_id offset 40 limit 1);
         {LIST_STARTS}
         analyze"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(rare)).execute(&pool).await.unwrap();
    pool.close().await;
    (database, some)
}

/// A time in the middle of those of the filled rows.
async fn middle(database: &Database) -> DateTime<Utc> {
    let pool = database.pool().await;
    let middle = "select created_at from engine.saga order by created_at offset 30000 limit 1";
    let time = sqlx::query_scalar(middle).fetch_one(&pool).await.unwrap();
    pool.close().await;
    time
}

fn cases(some: Uuid, middle: DateTime<Utc>, key: &str) -> Vec<Case> {
    let case = |list, tables, items| Case { list, tables, items };
    let sagas = |filter, items| case(List::Sagas(filter), &["engine.saga", "engine.start_batch"], items);
    let all = SagaFilter::default;
    let status = |status| SagaFilter { status: Some(status), ..all() };
    let definition = |name: &str| SagaFilter { definition: Some(name.into()), ..all() };
    let dead = |filter, items| case(List::DeadJobs(filter), &["engine.dead_job"], items);
    let archived = |filter, items| case(List::Archive(filter), &["engine.dead_job_archive"], items);
    let open = DeadJobFilter::default;
    let rare_definition = || DeadJobFilter { definition: Some("rare".into()), ..open() };
    let rare_step = || DeadJobFilter { step: Some("rare".into()), ..open() };
    let audits = |filter, items| case(List::Audit(filter), &["shop.audit"], items);
    let orders = |filter, items| case(List::Orders(filter), &["shop.orders"], items);
    let in_status = |status| OrderFilter { status: Some(status), ..OrderFilter::default() };
    let mails = |status, items| case(List::Notifications(status), &["shop.notification"], items);
    vec![
        sagas(all(), 50),
        sagas(definition("rare"), 1),
        sagas(definition("none"), 0),
        sagas(definition("place-order"), 50),
        sagas(status(Status::Dead), 1),
        sagas(status(Status::Running), 1),
        sagas(status(Status::Compensated), 0),
        sagas(status(Status::Completed), 50),
        sagas(SagaFilter { status: Some(Status::Compensated), ..definition("place-order") }, 0),
        sagas(SagaFilter { business_key: Some(key.into()), ..all() }, 1),
        sagas(SagaFilter { parent: Some(engine::SagaId(some)), ..all() }, 30),
        sagas(SagaFilter { root: Some(engine::SagaId(some)), ..all() }, 31),
        sagas(SagaFilter { created_before: Some(middle), ..all() }, 50),
        sagas(SagaFilter { created_after: Some(middle), ..all() }, 50),
        sagas(SagaFilter { created_before: Some(middle), ..definition("deliver-notification") }, 50),
        sagas(SagaFilter { stuck_for: Some(std::time::Duration::from_secs(1)), ..all() }, 1),
        sagas(SagaFilter { stuck_for: Some(std::time::Duration::from_hours(24 * 3000)), ..all() }, 0),
        dead(open(), 1),
        dead(rare_definition(), 1),
        dead(rare_step(), 1),
        dead(DeadJobFilter { with_resolved: true, ..open() }, 50),
        archived(open(), 50),
        archived(rare_definition(), 1),
        archived(rare_step(), 1),
        case(
            List::EngineAudit(AuditFilter { subject: Some(some), ..AuditFilter::default() }),
            &["engine.audit"],
            1,
        ),
        case(List::EngineAudit(AuditFilter::default()), &["engine.audit"], 50),
        audits(audit::Filter::default(), 50),
        audits(audit::Filter { action: Some("queue.pause".into()), ..audit::Filter::default() }, 1),
        audits(audit::Filter { subject_kind: Some("queue".into()), ..audit::Filter::default() }, 1),
        audits(audit::Filter { subject_id: Some("none".into()), ..audit::Filter::default() }, 0),
        orders(OrderFilter { created_before: Some(middle), ..OrderFilter::default() }, 50),
        orders(OrderFilter { created_after: Some(middle), ..OrderFilter::default() }, 50),
        orders(OrderFilter { customer_id: Some(Uuid::nil()), ..OrderFilter::default() }, 0),
        orders(in_status(OrderStatus::Confirmed), 50),
        orders(in_status(OrderStatus::Rejected), 1),
        orders(in_status(OrderStatus::Pending), 1),
        case(List::Orders(in_status(OrderStatus::Pending)), &["engine.saga"], 1),
        mails(NotificationStatus::Sent, 50),
        mails(NotificationStatus::Failed, 1),
        mails(NotificationStatus::Sending, 1),
        case(List::Notifications(NotificationStatus::Sending), &["engine.saga"], 1),
    ]
}

#[tokio::test]
async fn the_first_page_under_each_single_filter_reads_few_blocks() {
    let (database, some) = filled().await;
    let middle = middle(&database).await;
    let pool = database.pool().await;
    let key: String =
        sqlx::query_scalar("select key from engine.business_key order by created_at offset 30000 limit 1")
            .fetch_one(&pool)
            .await
            .unwrap();
    pool.close().await;
    for Case { list, tables, items } in cases(some, middle, &key) {
        let blocks_read = async || {
            let mut read = 0;
            for table in tables {
                read += blocks_read(&database, table).await;
            }
            read
        };
        let before = blocks_read().await;
        assert_eq!(list.read(database.pool().await).await, items, "{list:?}");
        let read = blocks_read().await - before;
        assert!((1..FEW_BLOCKS).contains(&read), "{read} blocks of {tables:?} were read for {list:?}");
    }
}

#[tokio::test]
async fn pages_by_time_and_of_what_has_not_moved_have_every_saga_and_order_once() {
    let database = Database::fresh().await;
    let env = [("DATABASE_URL", database.owner_url()), ("SMTP_URL", "smtp://127.0.0.1:1".into())];
    let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut fill = Process::sagaline(&["bench", "fill", "--sagas", "200"], &env);
    assert!(fill.wait().await.success(), "{}", fill.output());
    let pool = database.pool().await;
    // Many that were started at the same time, as a batch is.
    pool.execute("update engine.saga set created_at = date_trunc('day', created_at)").await.unwrap();
    as_owner(&pool, LIST_STARTS).await.unwrap();
    pool.execute("update shop.orders set created_at = date_trunc('day', created_at)").await.unwrap();
    pool.execute("update engine.saga set status = 'running', waits_for = 'version', ended_at = null")
        .await
        .unwrap();
    let mails = tempfile::tempdir().unwrap();
    let settings = Settings::new(Mailer::files(mails.path(), "shop@example.com").unwrap());
    let engine = engine(pool.clone(), settings);
    let since = Some(DateTime::UNIX_EPOCH);
    for filter in [
        SagaFilter { created_after: since, ..SagaFilter::default() },
        SagaFilter { definition: Some("place-order".into()), ..SagaFilter::default() },
        // In the order of their ids, which is that of their starts here, too.
        SagaFilter { stuck_for: Some(std::time::Duration::from_secs(1)), ..SagaFilter::default() },
    ] {
        let (mut after, mut seen) = (None, Vec::new());
        loop {
            let page = engine.sagas(&filter, Page { after, limit: 7 }).await.unwrap();
            seen.extend(page.items.iter().map(|saga| (saga.created_at, saga.saga_id.0)));
            after = page.items.last().map(|saga| saga.saga_id.0);
            if !page.has_more {
                break;
            }
        }
        assert_eq!(seen.len(), if filter.definition.is_some() { 100 } else { 200 });
        assert!(seen.is_sorted_by(|one, next| one > next), "{seen:?}");
    }
    let filter = OrderFilter { created_after: since, ..OrderFilter::default() };
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = orders::list(&pool, &filter, Page { after, limit: 7 }).await.unwrap();
        seen.extend(page.items.iter().map(|order| (order.created_at, order.order_id)));
        after = page.items.last().map(|order| order.order_id);
        if !page.has_more {
            break;
        }
    }
    assert!(seen.len() == 100 && seen.is_sorted_by(|one, next| one > next), "{seen:?}");
    engine.shutdown().await;
    pool.close().await;
}
