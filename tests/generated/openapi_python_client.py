"""A client by openapi-python-client."""

import os

from streamgate_client import Client
from streamgate_client.api.entries import append_entries, read_entries
from streamgate_client.api.events import follow_events
from streamgate_client.api.groups import create_group
from streamgate_client.api.work import ack_entries, read_as_consumer
from streamgate_client.models import AckCall, EntryInput, EntryInputFields, GroupInput, ReadCall

client, stream = Client(base_url=os.environ["GATEWAY"]), "python-client"

fields = EntryInputFields.from_dict({"user": "alice", "total": 9.5})
appended = append_entries.sync(stream, client=client, body=EntryInput(fields=fields))
page = read_entries.sync(stream, client=client, after="0")
assert page.entries[0].id == appended.id
assert page.entries[0].fields["user"] == "alice", page

create_group.sync(stream, "workers", client=client, body=GroupInput())
delivered = read_as_consumer.sync(stream, "workers", client=client, body=ReadCall(consumer="w1"))
ids = [entry.id for entry in delivered.entries]
settled = ack_entries.sync(stream, "workers", client=client, body=AckCall(ids=ids))
assert settled.acknowledged == 1, settled

# The client has no call that reads as it comes, but the arguments of one.
with client.get_httpx_client().stream(**follow_events._get_kwargs(stream, after="0")) as events:
    assert any("alice" in line for line in events.iter_lines())
