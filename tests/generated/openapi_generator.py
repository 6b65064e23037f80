"""A client by openapi-generator, `python`."""

import os
import sys

from streamgate_openapi import ApiClient, Configuration, EntriesApi, EventsApi, GroupsApi, WorkApi
from streamgate_openapi.models import AckCall, BatchInput, EntriesInput, EntryInput, ValueInput, ReadCall

client = ApiClient(Configuration(host=os.environ["GATEWAY"]))
entries, work, stream = EntriesApi(client), WorkApi(client), "python"

fields = {"user": ValueInput("alice"), "total": ValueInput(9.5)}
first = entries.append_entries(stream, EntriesInput(EntryInput(fields=fields))).actual_instance
batch = EntriesInput(BatchInput(entries=[EntryInput(fields=fields)]))
assert entries.append_entries(stream, batch).actual_instance.appended == 1
page = entries.read_entries(stream, after="0", limit=1)
assert page.entries[0].id == first.id
assert page.entries[0].fields["user"].actual_instance == "alice", page

GroupsApi(client).create_group(stream, "workers")
delivered = work.read_as_consumer(stream, "workers", ReadCall(consumer="w1")).entries
settled = work.ack_entries(stream, "workers", AckCall(ids=[entry.id for entry in delivered]))
assert settled.acknowledged == 2, settled

events = EventsApi(client).follow_events_without_preload_content(stream, after="0")
text = b""
for part in events.stream():
    text += part
    if b"alice" in text:
        break
assert text.startswith(b"event: $open"), text
