//! Trees of definitions that can't be right do not build.

use engine::{BuildError, Engine, GraphError, Saga, SagaName, StepKind};

use super::{FLIGHT, Order, Plan, Seal, book_flight, fixtures, trip};

const PARENT: SagaName<Order> = SagaName::new("parent");

fn refused(builder: engine::EngineBuilder) -> GraphError {
    match builder.build() {
        Err(BuildError::Graph(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it builds"),
    }
}

#[tokio::test]
async fn a_child_that_is_not_registered_does_not_build() {
    let (_database, pool) = fixtures::database().await;
    let error = refused(Engine::builder(pool).register(trip()).register(book_flight()));
    assert!(matches!(&error, GraphError::NoSuchChild { child, .. } if child == "book-hotel"));
    assert!(error.to_string().contains("register it, too"), "{error}");
}

#[tokio::test]
async fn a_child_with_a_pivot_before_that_of_its_parent_does_not_build() {
    let (_database, pool) = fixtures::database().await;
    let with_pivot = || {
        Saga::named(FLIGHT)
            .pivot(Seal)
            .returns(|order: &Order| super::Booked { number: order.name.clone() })
            .build()
            .unwrap()
    };
    let before = Saga::named(PARENT).child("fly", FLIGHT.child(Order::clone)).pivot(Seal).build().unwrap();
    let error = refused(Engine::builder(pool.clone()).register(before).register(with_pivot()));
    assert!(matches!(&error, GraphError::ChildHasPivot { step, .. } if step == "fly"));
    assert!(error.to_string().contains("move the step behind the pivot"), "{error}");
    let behind = Saga::named(PARENT).pivot(Seal).child("fly", FLIGHT.child(Order::clone)).build().unwrap();
    let engine = Engine::builder(pool.clone()).register(behind).register(with_pivot()).build().unwrap();
    engine.shutdown().await;
    // An earlier graph is checked against the newest child.
    let earlier = Saga::named(PARENT).child("fly", FLIGHT.child(Order::clone)).build().unwrap();
    let newest = Saga::named(PARENT).then(Plan).build().unwrap();
    let error = refused(Engine::builder(pool).register(newest).also(earlier).register(with_pivot()));
    assert!(matches!(error, GraphError::ChildHasPivot { .. }));
}

#[tokio::test]
async fn definitions_that_contain_each_other_or_are_too_deep_do_not_build() {
    let (_database, pool) = fixtures::database().await;
    let names: [SagaName<Order>; 11] = [
        SagaName::new("s0"),
        SagaName::new("s1"),
        SagaName::new("s2"),
        SagaName::new("s3"),
        SagaName::new("s4"),
        SagaName::new("s5"),
        SagaName::new("s6"),
        SagaName::new("s7"),
        SagaName::new("s8"),
        SagaName::new("s9"),
        SagaName::new("s10"),
    ];
    let contains = |parent: usize, child: usize| {
        Saga::named(names[parent]).child("child", names[child].child(Order::clone)).build().unwrap()
    };
    let builder = || Engine::builder(pool.clone());
    let circle = refused(builder().register(contains(0, 1)).register(contains(1, 0)));
    assert!(matches!(circle, GraphError::ContainsItself { .. }), "{circle}");
    let line = |deepest: usize| {
        let last = Saga::named(names[deepest]).then(Plan).build().unwrap();
        (0..deepest).fold(builder().register(last), |builder, at| builder.register(contains(at, at + 1)))
    };
    let engine = line(8).build().unwrap();
    engine.shutdown().await;
    assert_eq!(refused(line(9)), GraphError::TooDeep { saga: "s0".into(), deepest: 8 });
}

#[test]
fn the_graph_names_the_children_and_the_hash_covers_them() {
    let definition = trip();
    let node = &definition.graph().steps[1];
    let children = node.children.as_ref().unwrap();
    assert_eq!(
        (node.kind, children.definitions.as_slice()),
        (StepKind::Parallel, ["book-flight".to_owned(), "book-hotel".to_owned()].as_slice())
    );
    assert_eq!(node.reads, ["input"]);
    let hash = |definition: engine::Definition| definition.graph().hash.clone();
    assert_eq!(hash(trip()), "g1:b945430be70ef723");
    let one = |settled: bool| {
        let saga = Saga::named(PARENT);
        if settled {
            hash(saga.child_settled("fly", FLIGHT.child(Order::clone)).build().unwrap())
        } else {
            hash(saga.child("fly", FLIGHT.child(Order::clone)).build().unwrap())
        }
    };
    assert_ne!(one(true), one(false));
    let each = |at_most| {
        let each = FLIGHT.each(|order: &Order| vec![order.clone()]).at_most(at_most);
        hash(Saga::named(PARENT).for_each("fly", each).build().unwrap())
    };
    assert_eq!(each(1), each(2), "how many are open at a time may change");
    assert_ne!(each(1), one(false));
}
