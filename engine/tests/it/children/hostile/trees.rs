//! Trees of several generations.

use super::*;

const TOP: SagaName<Task> = SagaName::new("top");
const MID: SagaName<Task> = SagaName::new("mid");
const LEAF: SagaName<Task> = SagaName::new("leaf");

/// Three generations below the top, with choices in them and children in arms, sleeps and signals.
fn tree(world: &Arc<World>) -> Vec<Definition> {
    let leaf = Saga::named(LEAF)
        .sleep("nap", Duration::from_millis(1))
        .when("is-odd", |task: &Task| task.extra, |odd| odd.then(Gamma(world.clone())))
        .then(Alpha(world.clone()))
        .build()
        .unwrap();
    let row = Saga::named(ROW)
        .then(Alpha(world.clone()))
        .either(
            "is-odd",
            |task: &Task| task.extra,
            |odd| odd.then(Beta(world.clone())).child("leaf", LEAF.child(Task::clone)),
            |even| even.then(Gamma(world.clone())).child("other-leaf", LEAF.child(Task::clone)),
        )
        .build()
        .unwrap();
    let mid = Saga::named(MID)
        .when(
            "has-more",
            |task: &Task| task.extra,
            |more| more.for_each("rows", ROW.each(Task::rows).at_most(3)),
        )
        .then(Beta(world.clone()))
        .child_settled("settled", LEAF.child(|task: &Task| Task::of(&task.name)))
        .build()
        .unwrap();
    let top = Saga::named(TOP)
        .then(Alpha(world.clone()))
        .parallel(
            "mids",
            (
                MID.child(Task::clone),
                MID.child(|task: &Task| Task { extra: !task.extra, no: Vec::new(), ..task.clone() }),
                LEAF.child(|task: &Task| Task { extra: task.extra, ..Task::of("leaf") }),
            ),
        )
        .then(Gamma(world.clone()))
        .build()
        .unwrap();
    vec![top, mid, row, leaf]
}

/// Trees are cancelled at any moment, some of their descendants say no, and processes vanish.
#[tokio::test]
async fn trees_are_cancelled_at_any_moment() {
    let seed = std::env::var("HOSTILE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        u64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() % 1_000_000).unwrap()
    });
    eprintln!("HOSTILE_SEED={seed}");
    let mut dice = Dice(seed);
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let start = || Process::start(tree(&world).into_iter().fold(builder(&pool), EngineBuilder::register));
    let (first, mut second) = (start(), start());
    let mut tops = Vec::new();
    for _ in 0..6 {
        let mut group = Vec::new();
        for _ in 0..5 {
            let bad: Vec<u32> = (0..9).filter(|_| dice.roll(40) == 0).collect();
            let mut task = Task { extra: dice.roll(2) == 0, ..Task::items(9, &bad) };
            if dice.roll(6) == 0 {
                task = task.no("gamma");
            }
            if dice.roll(6) == 0 {
                task = task.no("beta");
            }
            group.push(first.engine.start(TOP.with(&task)).await.unwrap().saga_id);
        }
        for id in &group {
            if dice.roll(4) == 0 {
                continue;
            }
            let moves = 1 + dice.roll(70);
            soon(
                &pool,
                &format!(
                    "select (select count(*) from engine.saga where root_id = '{id}') >= {moves} / 2 \
                     or (select ended_at is not null or status = 'compensating' from engine.saga where id = '{id}')"
                ),
            )
            .await;
            let engine = if dice.roll(2) == 0 { &first.engine } else { &second.engine };
            if dice.roll(5) == 0 {
                // A descendant instead.
                let some: Option<uuid::Uuid> = sqlx::query_scalar(
                    "select id from engine.saga where root_id = $1 and id <> $1 and ended_at is null limit 1",
                )
                .bind(id.0)
                .fetch_optional(&pool)
                .await
                .unwrap();
                if let Some(some) = some {
                    let _ = engine.cancel(SagaId(some), "ada", "a descendant").await;
                }
            } else {
                let _ = engine.cancel(*id, "ada", "at any moment").await;
            }
        }
        second.vanish(&pool).await;
        second = start();
        tops.extend(group);
    }
    let mut ends = [0, 0];
    for id in tops {
        let ended = ending(&first.engine, id).await;
        soon(
            &pool,
            &format!("select count(*) = 0 from engine.saga where root_id = '{id}' and ended_at is null"),
        )
        .await;
        let left = number(
            &pool,
            &format!(
                "select coalesce(sum(change), 0)::bigint from effect e join engine.saga s on s.id = e.saga_id \
                     where s.root_id = '{id}' or s.id = '{id}'"
            ),
        )
        .await;
        match ended.status {
            Status::Compensated => assert_eq!(left, 0, "{id} seed {seed}"),
            Status::Completed => {
                // The top itself, and what each definition has.
                let missing = number(
                    &pool,
                    &format!(
                        "select count(*) from engine.saga s join engine.saga p on p.id = s.parent_id \
                             where s.root_id = '{id}' \
                         and p.status = 'completed' and s.status <> 'completed' and s.parent_step <> 'settled'"
                    ),
                )
                .await;
                assert_eq!(missing, 0, "{id} seed {seed}");
            }
            other => panic!("{id} is {other:?}, seed {seed}"),
        }
        ends[usize::from(ended.status == Status::Completed)] += 1;
    }
    eprintln!("compensated, completed: {ends:?}");
    all_end(&pool).await;
    facts(&pool, &first.engine).await;
    first.close().await;
    second.close().await;
}

/// Everything of a tree completes, and is then undone through both arms of choices.
#[tokio::test]
async fn a_tree_with_choices_completes_or_is_undone_whole() {
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let test = Process::start(tree(&world).into_iter().fold(builder(&pool), EngineBuilder::register));
    let task = Task { extra: true, ..Task::items(9, &[]) };
    let id = test.engine.start(TOP.with(&task)).await.unwrap().saga_id;
    assert_eq!(ending(&test.engine, id).await.status, Status::Completed);
    let id = test.engine.start(TOP.with(&task.no("gamma"))).await.unwrap().saga_id;
    let ended = ending(&test.engine, id).await;
    assert_eq!(ended.status, Status::Compensated);
    all_end(&pool).await;
    let not_undone =
        format!("select count(*) from engine.saga where root_id = '{id}' and status <> 'compensated'");
    assert_eq!(number(&pool, &not_undone).await, 0);
    facts(&pool, &test.engine).await;
    test.close().await;
}

/// Two steps with children are undone one after the other, and an undo of the parent itself that is stuck is retried
/// without touching the children again.
#[tokio::test]
async fn steps_with_children_are_undone_in_reverse_order() {
    const PARENT: SagaName<Task> = SagaName::new("parent");
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    world.stuck.store(true, Ordering::Relaxed);
    let parent = Saga::named(PARENT)
        .then(Alpha(world.clone()))
        .for_each("first", ROW.each(|_: &Task| Task::items(20, &[]).rows()))
        .child("second", TOP.child(|_: &Task| Task { extra: true, ..Task::items(4, &[]) }))
        .then(Gamma(world.clone()))
        .build()
        .unwrap();
    let test = Process::start(
        tree(&world).into_iter().fold(builder(&pool), EngineBuilder::register).register(parent),
    );
    let id = test.engine.start(PARENT.with(&Task::of("stuck").no("gamma"))).await.unwrap().saga_id;
    assert_eq!(ending(&test.engine, id).await.status, Status::Dead);
    let early = format!(
        "select count(*) from engine.saga a, engine.saga b where a.parent_id = '{id}' and b.parent_id = '{id}' \
             and a.parent_step = 'first' and b.parent_step = 'second' and a.ended_at < b.ended_at"
    );
    assert_eq!(
        number(&pool, &early).await,
        0,
        "a child of the first step was undone before those of the second"
    );
    assert_eq!(
        number(
            &pool,
            "select count(*) from engine.saga where parent_id is not null and status <> 'compensated'"
        )
        .await,
        0
    );
    world.stuck.store(false, Ordering::Relaxed);
    retry(&test.engine, id).await;
    all_end(&pool).await;
    assert_eq!(left_behind(&pool).await, 0);
    facts(&pool, &test.engine).await;
    test.close().await;
}

/// Eight generations below the topmost one run, and are undone.
#[tokio::test]
async fn eight_generations_run_and_are_undone() {
    const NAMES: [SagaName<Task>; 9] = [
        SagaName::new("g0"),
        SagaName::new("g1"),
        SagaName::new("g2"),
        SagaName::new("g3"),
        SagaName::new("g4"),
        SagaName::new("g5"),
        SagaName::new("g6"),
        SagaName::new("g7"),
        SagaName::new("g8"),
    ];
    let (_database, pool) = fixtures::database().await;
    let world = Arc::new(World::default());
    let mut builder =
        builder(&pool).register(Saga::named(NAMES[8]).then(Alpha(world.clone())).build().unwrap());
    for at in 0..8 {
        let saga = Saga::named(NAMES[at])
            .then(Alpha(world.clone()))
            .child("child", NAMES[at + 1].child(Task::clone));
        // The topmost one says no in the end.
        let built = if at == 0 { saga.then(Gamma(world.clone())).build() } else { saga.build() };
        builder = builder.register(built.unwrap());
    }
    let test = Process::start(builder);
    let id = test.engine.start(NAMES[0].with(&Task::of("deep"))).await.unwrap().saga_id;
    assert_eq!(ending(&test.engine, id).await.status, Status::Completed);
    assert_eq!(number(&pool, "select max(depth)::bigint from engine.saga").await, 8);
    let id = test.engine.start(NAMES[0].with(&Task::of("deep").no("gamma"))).await.unwrap().saga_id;
    assert_eq!(ending(&test.engine, id).await.status, Status::Compensated);
    all_end(&pool).await;
    assert_eq!(left_behind(&pool).await, 10);
    facts(&pool, &test.engine).await;
    test.close().await;
}
