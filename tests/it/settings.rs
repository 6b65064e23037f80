//! Every setting at the ends of its range: what is accepted at the start must not break a request.

use streamgate::config::{SPECS, Spec};

use crate::support::app::{answer, client_with};
use crate::support::gateway::{Gateway, run};
use crate::support::redis::shared;
use crate::support::{FEW_FILES, may_connect, skipped, unique};

/// Further settings without which a value contradicts the defaults.
fn companions(name: &str) -> &'static [&'static str] {
    match name {
        "max-body" => &[
            "--body-memory",
            "1024GiB",
            "--max-scheduled-bytes",
            "1024GiB",
        ],
        "body-memory" | "max-scheduled-bytes" => &["--max-body", "1B"],
        _ => &[],
    }
}

fn ordered() -> impl Iterator<Item = &'static Spec> {
    SPECS.iter().filter(|spec| !spec.range.0.is_empty())
}

#[tokio::test]
async fn requests_are_answered_with_every_setting_at_both_ends_of_its_range() {
    // Each of the 256 workers has descriptors of its own.
    if !may_connect(2000) {
        return skipped(FEW_FILES);
    }
    // A connection for each request: some values close one right after its answer.
    let client = client_with(|builder| builder.pool_max_idle_per_host(0));
    let url = shared().await.url();
    let mut tried = 0;
    for spec in ordered() {
        for value in [spec.range.0, spec.range.1] {
            let (flag, stream) = (format!("--{}", spec.name), unique("extreme"));
            let mut args = vec!["serve", "--listen", "127.0.0.1:0", "--redis-url", &url];
            args.extend([flag.as_str(), value]);
            args.extend(companions(spec.name));
            let gateway = Gateway::start(&args);
            let of = |path: &str| format!("http://{}{path}", gateway.address);
            let entries = of(&format!("/v1/streams/{stream}/entries"));
            let group = of(&format!("/v1/streams/{stream}/groups/g"));
            let form = "application/x-www-form-urlencoded";
            let requests = [
                client.get(of("/livez")),
                client
                    .post(&entries)
                    .header("content-type", form)
                    .body("n=1"),
                client.get(&entries),
                client.put(&group),
                client
                    .post(format!("{group}/read?wait=10ms"))
                    .header("content-type", form)
                    .body("consumer=w"),
                client.get(of("/metrics")),
            ];
            // With a timeout of 1 ms, the gateway can close a connection before its request comes.
            for request in requests {
                let mut answered = answer(request.try_clone().unwrap()).await;
                for _ in 0..20 {
                    if answered.is_err() {
                        answered = answer(request.try_clone().unwrap()).await;
                    }
                }
                let answered = answered.unwrap_or_else(|error| panic!("{flag} {value}: {error:?}"));
                assert_ne!(answered.status, 500, "{flag} {value}: {answered:?}");
            }
            let events = of(&format!("/v1/streams/{stream}/events"));
            let mut answered = client.get(&events).send().await;
            for _ in 0..20 {
                if answered.is_err() {
                    answered = client.get(&events).send().await;
                }
            }
            assert_ne!(answered.unwrap().status(), 500, "{flag} {value}");
            let log: Vec<String> = gateway.log.try_iter().collect();
            assert!(
                !log.iter().any(|line| line.contains("panicked")),
                "{flag} {value}: {log:#?}"
            );
            tried += 1;
        }
    }
    assert!(tried > 60, "only {tried}");
}

#[tokio::test]
async fn values_beyond_the_range_of_a_setting_are_refused_at_the_start() {
    let beyond = |spec: &Spec| match spec.value {
        "N" => "99999999999999999999",
        "N/TIME" => "2000000000/s",
        "SIZE" => "9999999999GiB",
        _ => "9999999999d",
    };
    for spec in ordered() {
        let flag = format!("--{}", spec.name);
        let args = [
            "config",
            "check",
            "--redis-url",
            "redis://localhost",
            &flag,
            beyond(spec),
        ];
        let (code, _, told) = run(&args, &[]);
        assert_eq!(code, Some(2), "{flag}: {told}");
        assert!(told.contains(spec.name), "{flag}: {told}");
    }
}
