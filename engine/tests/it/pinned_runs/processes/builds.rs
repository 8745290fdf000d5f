//! Processes of one build each, which work on the database of a test and do what it asks of them.

use std::{io::Write, process::Stdio, time::Duration};

use engine::{DeadJobId, DiscardMode, Engine, EngineBuilder, InFlight, SagaId, Status};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};
use tokio_util::sync::CancellationToken;

use super::trips::{CHANGES, Change, Flights, Left, Trip, WORD, definition};
use crate::support::WAIT_TIMEOUT;

/// Names the database, the build and the queues for a process of its own.
const DATABASE: &str = "SAGALINE_TEST_BUILD_DATABASE";
const BUILD: &str = "SAGALINE_TEST_BUILD";
const QUEUES: &str = "SAGALINE_TEST_BUILD_QUEUES";
const HERE: &str = "it::pinned_runs::processes::builds::works_for_another_test";
/// Precedes what a process answers: the test harness writes to the same output.
const ANSWER: &str = "answer: ";

/// A build of the program: which graphs it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Build {
    Old,
    New,
    /// As the old one, but the output of a step has another type: the mistake that a check before the deploy finds.
    Careless,
}

impl Build {
    const ALL: [Self; 3] = [Self::Old, Self::New, Self::Careless];

    fn name(self) -> &'static str {
        match self {
            Self::Old => "old",
            Self::New => "new",
            Self::Careless => "careless",
        }
    }

    fn definition(self, change: &Change, queue: &str, pool: &PgPool) -> engine::Definition {
        let (version, flights) = match self {
            Self::Old => (change.old, Flights::InNumbers),
            Self::New => (change.new, Flights::InNumbers),
            Self::Careless => (change.old, Flights::InWords),
        };
        definition(change.name(), version, flights, queue, pool)
    }

    /// An engine of this build, whose new sagas are in this queue.
    pub(super) fn engine(self, pool: &PgPool, queue: &str) -> Engine {
        let builder = Engine::builder(pool.clone())
            .lease(Duration::from_secs(1))
            .unknown_grace(Duration::ZERO)
            .sweep(Duration::from_millis(20));
        let register =
            |builder: EngineBuilder, change| builder.register(self.definition(change, queue, pool));
        CHANGES.iter().fold(builder, register).build().unwrap()
    }
}

/// What a test asks of a process.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask {
    Cancel(SagaId),
    Signal(SagaId),
    SkipWait(SagaId),
    Retry(DeadJobId),
    Discard(DeadJobId),
    ForceDiscard(DeadJobId),
    /// Starts a saga, and waits for its end.
    Run(&'static str),
    /// What became of each saga in flight with this build.
    Check,
    VerifyHistories,
}

impl Ask {
    fn line(self) -> String {
        match self {
            Self::Cancel(id) => format!("cancel {id}"),
            Self::Signal(id) => format!("signal {id}"),
            Self::SkipWait(id) => format!("skip-wait {id}"),
            Self::Retry(id) => format!("retry {id}"),
            Self::Discard(id) => format!("discard {id}"),
            Self::ForceDiscard(id) => format!("force-discard {id}"),
            Self::Run(name) => format!("run {name}"),
            Self::Check => "check all".into(),
            Self::VerifyHistories => "verify all".into(),
        }
    }
}

/// What a check found of one kind of sagas.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) definition: String,
    pub(super) prospect: String,
    pub(super) sagas: u64,
    pub(super) first: Option<(SagaId, String)>,
}

impl From<InFlight> for Found {
    fn from(kind: InFlight) -> Self {
        let InFlight { definition, prospect, sagas, first, .. } = kind;
        Self { definition, prospect: format!("{prospect:?}"), sagas, first }
    }
}

/// Does what is asked, and tells how it went.
async fn answer(engine: &Engine, line: &str) -> String {
    let (what, of) = line.split_once(' ').unwrap();
    let saga_id = || of.parse::<SagaId>().unwrap();
    let job_id = || of.parse::<DeadJobId>().unwrap();
    let (who, why) = ("ada", "asked of another process");
    match what {
        "cancel" => format!("{:?}", engine.cancel(saga_id(), who, why).await),
        "signal" => format!("{:?}", engine.signal(saga_id(), WORD.with(&1)).await.map(|sent| sent.state)),
        "skip-wait" => format!("{:?}", engine.skip_wait(saga_id(), who, why).await.map(|wait| wait.step)),
        "retry" => format!("{:?}", engine.retry_dead_job(job_id(), who, why).await),
        "discard" | "force-discard" => {
            let mode = if what == "discard" { DiscardMode::Safe } else { DiscardMode::Force };
            let discarded = engine.discard_dead_job(job_id(), mode, who, why).await;
            format!("{:?}", discarded.map(|outcome| outcome.map(|done| done.effect)))
        }
        "run" => {
            let name = CHANGES.iter().find(|change| change.saga == of).unwrap().name();
            let new = name.with(&Trip { left: Left::Queued });
            let (started, ending) = engine.start_and_wait(new, WAIT_TIMEOUT).await.unwrap();
            assert_eq!(ending.unwrap().status, Status::Completed);
            started.saga_id.to_string()
        }
        "check" => {
            let kinds = engine.check_in_flight().await.unwrap();
            serde_json::to_string(&kinds.into_iter().map(Found::from).collect::<Vec<_>>()).unwrap()
        }
        "verify" => format!("{:?}", engine.verify_histories(1000).await.unwrap()),
        other => panic!("nobody asks for `{other}`"),
    }
}

/// A process of a build. It works on its queues until it is stopped or killed.
pub(super) struct Process {
    child: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Process {
    pub(super) fn start(url: &str, build: Build, queues: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([HERE, "--exact", "--nocapture"])
            .env(DATABASE, url)
            .env(BUILD, build.name())
            .env(QUEUES, queues.join(","))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let questions = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, questions, answers }
    }

    pub(super) async fn ask(&mut self, ask: Ask) -> String {
        self.questions.write_all(format!("{}\n", ask.line()).as_bytes()).await.unwrap();
        loop {
            let line = self.answers.next_line().await.unwrap().expect("the process answers");
            if let Some(answer) = line.strip_prefix(ANSWER) {
                return answer.to_owned();
            }
        }
    }

    /// Lets it finish what it holds, as a deploy does.
    pub(super) async fn stop(self) {
        let Self { mut child, questions, answers: _answers } = self;
        drop(questions);
        assert!(child.wait().await.unwrap().success());
    }

    /// Kills it as `kill -9` does.
    pub(super) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// The next question; `None` when it is to stop.
fn question() -> Option<String> {
    std::io::stdin().lines().next().transpose().unwrap()
}

/// The process of the tests; does nothing in an ordinary run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn works_for_another_test() {
    let Ok(url) = std::env::var(DATABASE) else { return };
    let (build, queues) = (std::env::var(BUILD).unwrap(), std::env::var(QUEUES).unwrap());
    let build = Build::ALL.into_iter().find(|known| known.name() == build).unwrap();
    let queues: Vec<_> = queues.split(',').filter(|queue| !queue.is_empty()).collect();
    let pool = PgPool::connect(&url).await.unwrap();
    let engine = build.engine(&pool, queues.first().unwrap_or(&"default"));
    let stop = CancellationToken::new();
    let feeds: Vec<_> = queues
        .iter()
        .map(|queue| {
            let (engine, stop, mut feed) = (engine.clone(), stop.clone(), engine.feed(queue, 256));
            tokio::spawn(async move { engine.run(&mut feed, stop).await })
        })
        .collect();
    while let Some(question) = tokio::task::spawn_blocking(question).await.unwrap() {
        let answer = answer(&engine, &question).await;
        // The harness writes the name of the test without an end of the line.
        std::io::stdout().write_all(format!("\n{ANSWER}{answer}\n").as_bytes()).unwrap();
        std::io::stdout().flush().unwrap();
    }
    stop.cancel();
    for feed in feeds {
        feed.await.unwrap();
    }
    engine.shutdown().await;
}
