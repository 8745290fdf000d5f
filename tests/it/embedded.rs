//! The embedded PostgreSQL, with real servers.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use devkit::postgres::{Cluster, Durability, EmbeddedError, Options, Search, reset};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use sqlx::{Connection, Executor, PgConnection};
use tokio::process::Command;

use crate::support::{Process, TempState, WAIT_TIMEOUT};

/// The variable that names the folder in which a child process of a test keeps a cluster running.
const HOLD: &str = "SAGALINE_TEST_HOLD";

async fn connect(cluster: &Cluster, database: &str) -> PgConnection {
    PgConnection::connect(&cluster.url(database)).await.expect("the cluster takes connections")
}

async fn setting(cluster: &Cluster, name: &str) -> String {
    let mut connection = connect(cluster, "postgres").await;
    let query = sqlx::query_scalar("select current_setting($1)").bind(name);
    query.fetch_one(&mut connection).await.unwrap()
}

async fn write(cluster: &Cluster) {
    let mut connection = connect(cluster, "postgres").await;
    connection.execute("create table kept (word text); insert into kept values ('here')").await.unwrap();
}

async fn read(cluster: &Cluster) -> String {
    let mut connection = connect(cluster, "postgres").await;
    sqlx::query_scalar("select word from kept").fetch_one(&mut connection).await.unwrap()
}

fn is_gone(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None).is_err()
}

#[tokio::test]
async fn only_the_last_user_stops_the_server() {
    let state = TempState::new();
    let first = state.start().await;
    let second = state.start().await;
    assert!(!first.was_adopted() && second.was_adopted());
    let pid = first.pid();
    assert_eq!(pid, second.pid());

    first.stop().await.unwrap();
    connect(&second, "postgres").await.close().await.unwrap();
    second.stop().await.unwrap();
    assert!(!state.cluster_dir().join("data/postmaster.pid").exists());
    // The server has ended, but its parent, the first user's process, has not reaped it yet.
    let noted = async {
        while !is_gone(pid) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, noted).await.unwrap();
}

#[tokio::test]
async fn concurrent_starts_share_one_server() {
    let state = TempState::new();
    let starts = (0..6).map(|_| tokio::spawn(Cluster::start(state.options())));
    let mut clusters = Vec::new();
    for start in starts.collect::<Vec<_>>() {
        clusters.push(start.await.unwrap().unwrap());
    }
    assert_eq!(clusters.iter().filter(|cluster| !cluster.was_adopted()).count(), 1);
    assert!(clusters.iter().all(|cluster| cluster.pid() == clusters[0].pid()));
    for cluster in clusters {
        cluster.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_killed_process_leaves_a_server_that_the_next_one_adopts_and_stops() {
    let state = TempState::new();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["it::embedded::holds_a_cluster_for_another_test", "--exact", "--nocapture"]);
    command.env(HOLD, state.state_dir().path());
    let mut holder = Process::start(command);
    let line = holder.wait_for_line("holding server ").await;
    let pid: i32 = line.rsplit(' ').next().unwrap().parse().unwrap();
    holder.kill9().await;

    let cluster = state.start().await;
    assert!(cluster.was_adopted());
    assert_eq!(cluster.pid(), pid);
    cluster.stop().await.unwrap();
    assert!(!state.cluster_dir().join("data/postmaster.pid").exists());
}

/// The child process of the test above; does nothing in an ordinary run.
#[tokio::test]
async fn holds_a_cluster_for_another_test() {
    let Some(dir) = std::env::var_os(HOLD) else {
        return;
    };
    let state_dir = devkit::postgres::StateDir::at(dir);
    let options = Options { state_dir, durability: Durability::Throwaway, search: Search::from_env() };
    let cluster = Cluster::start(options).await.unwrap();
    println!("\nholding server {}", cluster.pid());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_detached_server_is_adopted() {
    let state = TempState::new();
    let cluster = state.start().await;
    let pid = cluster.pid();
    cluster.detach();
    let cluster = state.start().await;
    assert!(cluster.was_adopted());
    assert_eq!(cluster.pid(), pid);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn dropping_the_handle_stops_the_server() {
    let state = TempState::new();
    let cluster = state.start().await;
    let pid = cluster.pid();
    drop(cluster);
    let cluster = state.start().await;
    assert_ne!(cluster.pid(), pid);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn data_survive_a_stop_and_a_start() {
    let state = TempState::new();
    let cluster = state.start().await;
    write(&cluster).await;
    cluster.stop().await.unwrap();

    let cluster = state.start().await;
    assert!(!cluster.was_adopted());
    assert_eq!(read(&cluster).await, "here");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn data_survive_a_killed_server_and_a_new_one_is_started() {
    let state = TempState::new();
    let options = Options { durability: Durability::Durable, ..state.options() };
    let cluster = Cluster::start(options.clone()).await.unwrap();
    write(&cluster).await;
    let pid = cluster.pid();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    cluster.detach();

    let cluster = Cluster::start(options).await.unwrap();
    assert!(!cluster.was_adopted());
    assert_eq!(read(&cluster).await, "here");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_pid_file_that_names_another_program_is_ignored() {
    let state = TempState::new();
    state.start().await.stop().await.unwrap();
    let pid_file = state.cluster_dir().join("data/postmaster.pid");
    let other_program = std::process::id();
    let data = state.cluster_dir().join("data");
    let run = state.cluster_dir().join("run");
    let text = format!(
        "{other_program}\n{}\n1700000000\n5432\n{}\n\n  1234  5\nready   \n",
        data.display(),
        run.display()
    );
    fs::write(&pid_file, text).unwrap();
    let owner = fs::metadata(&data).unwrap();
    std::os::unix::fs::chown(&pid_file, Some(owner.uid()), Some(owner.gid())).unwrap();

    let cluster = state.start().await;
    assert!(!cluster.was_adopted());
    connect(&cluster, "postgres").await.close().await.unwrap();
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_whose_socket_was_deleted_is_replaced() {
    let state = TempState::new();
    let cluster = state.start().await;
    let pid = cluster.pid();
    fs::remove_file(state.cluster_dir().join("run/.s.PGSQL.5432")).unwrap();
    cluster.detach();

    let cluster = state.start().await;
    assert_ne!(cluster.pid(), pid);
    connect(&cluster, "postgres").await.close().await.unwrap();
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_state_directory_with_a_long_path_works_and_is_reset_completely() {
    let state = TempState::with_path("long".repeat(30));
    let cluster = state.start().await;
    connect(&cluster, "postgres").await.close().await.unwrap();
    let short = PathBuf::from(fs::read_to_string(state.cluster_dir().join("socket-dir")).unwrap());
    assert!(short.join(".s.PGSQL.5432").as_os_str().len() <= 90);
    cluster.stop().await.unwrap();

    let cluster = state.start().await;
    assert_eq!(PathBuf::from(fs::read_to_string(state.cluster_dir().join("socket-dir")).unwrap()), short);
    cluster.stop().await.unwrap();
    reset(&state.state_dir()).await.unwrap();
    assert!(!short.exists());
}

#[tokio::test]
async fn a_state_directory_with_odd_characters_works() {
    let state = TempState::with_path("it's, 50% \"ödd\" & so #on?");
    let cluster = state.start().await;
    cluster.create_database_if_missing("an odd/name?").await.unwrap();
    connect(&cluster, "an odd/name?").await.close().await.unwrap();
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn another_server_on_port_5432_does_not_matter() {
    // Takes the port, unless another process already has it.
    let other = TcpListener::bind("127.0.0.1:5432");
    let state = TempState::new();
    let cluster = state.start().await;
    assert_eq!(setting(&cluster, "listen_addresses").await, "");
    assert_eq!(setting(&cluster, "cluster_name").await, "sagaline");
    cluster.stop().await.unwrap();
    drop(other);
}

#[tokio::test]
async fn commits_are_durable_unless_throwaway_is_chosen() {
    let state = TempState::new();
    let cluster =
        Cluster::start(Options { durability: Durability::Durable, ..state.options() }).await.unwrap();
    for name in ["fsync", "synchronous_commit", "full_page_writes"] {
        assert_eq!(setting(&cluster, name).await, "on", "{name}");
    }
    cluster.stop().await.unwrap();

    let cluster = state.start().await;
    for name in ["fsync", "synchronous_commit", "full_page_writes"] {
        assert_eq!(setting(&cluster, name).await, "off", "{name}");
    }
    assert_eq!(setting(&cluster, "server_encoding").await, "UTF8");
    assert_eq!(setting(&cluster, "max_connections").await, "200");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn the_server_never_runs_as_root_and_other_users_can_not_reach_it() {
    let state = TempState::new();
    let cluster = state.start().await;
    let data = fs::metadata(state.cluster_dir().join("data")).unwrap();
    assert_ne!(data.uid(), 0);
    assert!(geteuid().is_root() || data.uid() == geteuid().as_raw());
    let run = fs::metadata(state.cluster_dir().join("run")).unwrap();
    assert_eq!((run.uid(), run.mode() & 0o777), (data.uid(), 0o700));
    // Files that the program itself created stay owned by its user.
    assert_eq!(fs::metadata(state.cluster_dir()).unwrap().uid(), geteuid().as_raw());
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn an_inaccessible_parent_folder_is_named_when_root_starts_the_server() {
    if !geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let state_dir = devkit::postgres::StateDir::at(dir.path().join("state"));
    let options = Options { state_dir, durability: Durability::Throwaway, search: Search::from_env() };
    let error = Cluster::start(options).await.unwrap_err();
    assert!(matches!(&error, EmbeddedError::Closed { dir: closed, .. } if closed == dir.path()), "{error}");
}

#[tokio::test]
async fn missing_binaries_are_reported_with_every_place_searched_and_every_remedy() {
    let state = TempState::new();
    let places = [state.temp_dir().join("nowhere"), state.temp_dir().join("elsewhere")];
    let options = Options { search: Search::in_dirs(places.clone()), ..state.options() };
    let text = Cluster::start(options).await.unwrap_err().to_string();
    for place in places {
        assert!(text.contains(&place.display().to_string()), "{text}");
    }
    for remedy in ["apt-get install postgresql", "brew install", "SAGALINE_PG_BIN", "DATABASE_URL"] {
        assert!(text.contains(remedy), "{text}");
    }
}

#[tokio::test]
async fn a_running_server_is_adopted_without_any_binaries() {
    let state = TempState::new();
    let first = state.start().await;
    let options = Options { search: Search::in_dirs([]), ..state.options() };
    let second = Cluster::start(options).await.unwrap();
    assert_eq!(first.pid(), second.pid());
    second.stop().await.unwrap();
    first.stop().await.unwrap();
}

#[tokio::test]
async fn a_reset_fails_while_the_server_is_used_and_removes_only_our_files() {
    let state = TempState::new();
    let cluster = state.start().await;
    fs::write(state.state_dir().path().join("mine.txt"), "mine").unwrap();
    let error = reset(&state.state_dir()).await.unwrap_err();
    assert!(matches!(error, EmbeddedError::InUse { .. }), "{error}");

    cluster.detach();
    reset(&state.state_dir()).await.unwrap();
    assert!(state.state_dir().path().join("mine.txt").exists());
    assert!(!state.cluster_dir().join("data").exists());
    reset(&state.state_dir()).await.unwrap();
    state.start().await.stop().await.unwrap();
}

#[tokio::test]
async fn a_folder_that_is_not_ours_is_not_touched() {
    let state = TempState::new();
    fs::create_dir_all(state.cluster_dir()).unwrap();
    fs::write(state.cluster_dir().join("theirs.txt"), "theirs").unwrap();
    let error = Cluster::start(state.options()).await.unwrap_err();
    assert!(matches!(error, EmbeddedError::Foreign { .. }), "{error}");
    let error = reset(&state.state_dir()).await.unwrap_err();
    assert!(matches!(error, EmbeddedError::Foreign { .. }), "{error}");
    assert!(state.cluster_dir().join("theirs.txt").exists());
}
