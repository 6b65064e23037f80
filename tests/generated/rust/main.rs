//! A client by openapi-generator, `rust`.

use std::collections::HashMap;

use gateway::apis::configuration::Configuration;
use gateway::apis::{entries_api, groups_api, work_api};
use gateway::models::{AckCall, AppendAnswer, EntriesInput, EntryInput, GroupInput, ReadCall, Value, ValueInput};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let configuration = Configuration {
        base_path: std::env::var("GATEWAY").unwrap(),
        ..Configuration::default()
    };
    let (gateway, stream, group) = (&configuration, "rust", "workers");

    let fields = HashMap::from([
        ("user".to_owned(), ValueInput::String("alice".to_owned())),
        ("total".to_owned(), ValueInput::Number(9.5)),
    ]);
    let entry = EntriesInput::EntryInput(Box::new(EntryInput { fields: Some(fields), ..EntryInput::new() }));
    let appended = entries_api::append_entries(
        gateway, stream, entry, None, None, None, None, None, None, None, None, None, None, None, None, None, None, None, None,
        None, None, None, None,
    );
    let AppendAnswer::AppendedEntry(appended) = appended.await.unwrap() else { panic!("one entry") };
    let page = entries_api::read_entries(
        gateway, stream, Some("0"), None, None, None, None, None, None, None, None, None, None, None, None, None, None, None,
        None, None, None,
    );
    let page = page.await.unwrap();
    assert_eq!(page.entries[0].id, appended.id);
    let fields = page.entries[0].fields.clone().flatten().unwrap();
    assert_eq!(fields["user"], Value::String("alice".to_owned()));

    // Without a body, the client would send `null`.
    groups_api::create_group(gateway, stream, group, None, None, Some(GroupInput::new())).await.unwrap();
    let call = ReadCall::new("w1".to_owned());
    let delivered = work_api::read_as_consumer(gateway, stream, group, call, None).await.unwrap();
    let ids = delivered.entries.iter().map(|entry| entry.id.clone()).collect();
    let call = AckCall { ids: Some(ids), ..AckCall::default() };
    let settled = work_api::ack_entries(gateway, stream, group, call, None, None, None).await.unwrap();
    assert_eq!(settled.acknowledged.flatten(), Some(1));
}
