//! Log files: one a day for each kind of process.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::deployment::{Deployment, until};

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Creates files one after the other, each with a later creation time, because the oldest are deleted.
async fn make(dir: &Path, names: &[&str]) {
    let mut last: Option<PathBuf> = None;
    for name in names {
        let path = dir.join(name);
        until("the file system's clock to advance", || async {
            File::create(&path).unwrap();
            let created = |path: &PathBuf| fs::metadata(path).and_then(|file| file.created());
            let is_later = match &last {
                Some(last) => created(last).ok() < created(&path).ok() || created(&path).is_err(),
                None => true,
            };
            if is_later {
                return Ok(());
            }
            fs::remove_file(&path).unwrap();
            Err("made at the same time")
        })
        .await;
        last = Some(path);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_process_writes_its_own_complete_log_file() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("made/when/missing");
    let mut deployment = Deployment::new().await;
    deployment.set("LOG_DIR", logs.to_str().unwrap());
    let orders = deployment.serve(&["--service", "orders"]).await;
    let worker = deployment.work().await;
    let address = orders.base.clone();
    let ended = orders.stops_cleanly().await;
    assert!(ended.output().contains(r#""message":"stopped""#), "standard error is kept: {}", ended.output());
    worker.stops_cleanly().await;

    let names = files(&logs);
    let kinds: Vec<_> = names.iter().filter_map(|name| name.split_once(".log.")).collect();
    assert_eq!(kinds.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), ["orders", "work"], "{names:?}");
    for (_, date) in &kinds {
        assert!(chrono::NaiveDate::parse_from_str(date, "%Y-%m-%d").is_ok(), "{date} is no date");
    }
    let text = fs::read_to_string(logs.join(&names[0])).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let serving = lines.iter().find(|line| line["message"] == "serving").unwrap();
    assert_eq!(format!("http://{}", serving["address"].as_str().unwrap()), address);
    assert_eq!(serving["docs"], format!("{address}/docs"));
    assert!(serving["timestamp"].is_string() && serving["level"] == "INFO", "{serving}");
    assert_eq!(lines.last().unwrap()["message"], "stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_log_files_beyond_the_configured_number_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let old =
        ["orders.log.2020-01-01", "orders.log.2020-01-02", "orders.log.2020-01-03", "orders.log.2020-01-04"];
    make(dir.path(), &old).await;
    make(dir.path(), &["work.log.2020-01-01", "notes.txt"]).await;
    let mut deployment = Deployment::new().await;
    deployment.set("LOG_DIR", dir.path().to_str().unwrap());
    deployment.set("LOG_KEEP_DAYS", "2");
    deployment.serve(&["--service", "orders"]).await.stops_cleanly().await;
    let names = files(dir.path());
    assert_eq!(names[..3], ["notes.txt", "orders.log.2020-01-03", "orders.log.2020-01-04"], "{names:?}");
    assert!(names[3].starts_with("orders.log.") && names[4] == "work.log.2020-01-01", "{names:?}");

    // A second start on the same day must not delete today's file.
    let today = names[3].clone();
    deployment.set("LOG_KEEP_DAYS", "1");
    let before = fs::read_to_string(dir.path().join(&today)).unwrap();
    deployment.serve(&["--service", "orders"]).await.stops_cleanly().await;
    let after = fs::read_to_string(dir.path().join(&today)).unwrap();
    assert!(after.len() > before.len() && after.starts_with(&before), "{after}");
}

#[tokio::test]
async fn logs_are_text_or_json_and_filtered_by_level() {
    let mut deployment = Deployment::new().await;
    let shapes = [("json", true), ("pretty", false), ("auto", true)];
    for (format, is_json) in shapes {
        deployment.set("LOG_FORMAT", format);
        let mut server = deployment.start(&["serve", "--service", "orders"]);
        let line = server.wait_for_line("serving").await;
        assert_eq!(serde_json::from_str::<Value>(&line).is_ok(), is_json, "{format}: {line}");
        assert!(line.contains("INFO"), "{format}: {line}");
        server.sigterm();
        assert_eq!(server.wait().await.code(), Some(0));
    }
    deployment.set("DATABASE_URL", "postgres://127.0.0.1:1/shop");
    deployment.set("DATABASE_WAIT", "1s");
    for (level, is_logged) in [("warn", true), ("error", false)] {
        deployment.set("LOG_LEVEL", level);
        let mut server = deployment.start(&["serve"]);
        assert_eq!(server.wait().await.code(), Some(2));
        assert_eq!(
            server.output().contains("does not answer yet"),
            is_logged,
            "{level}: {}",
            server.output()
        );
    }
}

#[tokio::test]
async fn a_directory_that_can_not_be_written_to_stops_the_start_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    File::create(&file).unwrap();
    let mut deployment = Deployment::new().await;
    let place = file.join("logs");
    deployment.set("LOG_DIR", place.to_str().unwrap());
    for command in ["serve", "work", "migrate"] {
        let mut process = deployment.start(&[command]);
        let code = process.wait().await.code();
        let output = process.output();
        assert_eq!(code, Some(2), "{command}: {output}");
        assert!(output.contains(&format!("LOG_DIR is `{}`", place.display())), "{command}: {output}");
    }
}

/// A Redis that refuses every command, as one does to a wrong password.
async fn refusing_redis() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://:wrong@{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut commands = [0; 1024];
                while let Ok(size) = stream.read(&mut commands).await
                    && size > 0
                {
                    let refusal = b"-WRONGPASS invalid username-password pair\r\n";
                    let count = String::from_utf8_lossy(&commands[..size]).matches('*').count();
                    if stream.write_all(&refusal.repeat(count)).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_is_logged_with_its_causes_in_every_format() {
    let wrong_password = refusing_redis().await;
    let causes =
        [("redis://127.0.0.1:1", "onnection refused"), (&wrong_password, "Password authentication failed")];
    for (url, cause) in causes {
        for format in ["json", "pretty"] {
            let dir = tempfile::tempdir().unwrap();
            let mut deployment = Deployment::new().await;
            deployment.set("REDIS_URL", url);
            deployment.set("LOG_FORMAT", format);
            deployment.set("LOG_DIR", dir.path().to_str().unwrap());
            let mut worker = deployment.start(&["work"]);
            let line = worker.wait_for_line("the queue's Redis is unreachable").await;
            assert!(line.contains(cause), "{format}: {line}");
            worker.sigterm();
            assert_eq!(worker.wait().await.code(), Some(0), "{}", worker.output());
            let file = dir.path().join(&files(dir.path())[0]);
            let text = fs::read_to_string(file).unwrap();
            let line = text.lines().find(|line| line.contains("the queue's Redis is unreachable")).unwrap();
            let line: Value = serde_json::from_str(line).unwrap();
            assert!(line["error"].as_str().unwrap().contains(cause), "{line}");
        }
    }
}
