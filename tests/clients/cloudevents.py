"""Sends events of every data type in every mode with the official SDK, and reads each back in every
form that a gateway returns. Usage: cloudevents.py http://HOST:PORT STREAM
"""

import json
import sys
from datetime import datetime, timezone

# This file has the name of the package and would hide it.
sys.path.pop(0)

import httpx
from cloudevents.core.bindings import http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

base, prefix = sys.argv[1:]
EVENT, EVENTS = "application/cloudevents+json", "application/cloudevents-batch+json"
TIME = datetime(2026, 11, 21, 10, 35, 7, 123456, tzinfo=timezone.utc)
JSON = {"datacontenttype": "application/json"}

CASES = {
    "none": ({}, None),
    "object": (JSON, {"total": 9.5, "lines": [None, {"sku": "ä\u2028"}]}),
    "implied": ({}, {"a": 1}),
    "array": (JSON, [1, "2", None]),
    "number": (JSON, -1.5),
    "boolean": (JSON, True),
    "string": (JSON, "plain"),
    "vendor": ({"datacontenttype": "application/vnd.example+json"}, {"a": 1}),
    "text": ({"datacontenttype": "text/plain"}, 'é\r\n"x"'),
    "xml": ({"datacontenttype": "application/xml"}, "<a/>"),
    "binary": ({"datacontenttype": "application/octet-stream"}, bytes(range(256))),
    "attributes": (
        JSON | {"subject": "ä/4711 €", "dataschema": "http://schemas.example/o", "zone": "eu"},
        {},
    ),
}
# Events that the SDK does not write as JSON in binary mode, or writes without their type.
NOT_BINARY = ["implied", "array", "number", "boolean", "string"]


def event(name):
    attributes, data = CASES[name]
    own = {"id": name, "source": "/sdk/python", "type": "com.example.round", "time": TIME}
    return CloudEvent(own | attributes, data)


def plain(event):
    """Returns the compared attributes and data. Data without a type is JSON."""
    attributes = dict(event.get_attributes())
    if event.get_data() is not None:
        attributes.setdefault("datacontenttype", "application/json")
    return attributes, event.get_data()


client = httpx.Client(base_url=base, timeout=10)


def call(method, path, **options):
    response = client.request(method, path, **options)
    assert response.is_success, f"{path}: {response.status_code} {response.text}"
    return response


def append(stream, message):
    path = f"/v1/streams/{stream}/entries"
    call("POST", path, headers=message.headers, content=message.body)


def read(text):
    return JSONFormat().read(None, text)


def batch(response):
    assert response.headers["content-type"] == EVENTS
    return [read(json.dumps(one)) for one in response.json()]


def followed(path, count):
    events, is_entry = [], True
    with client.stream("GET", path, headers={"Accept": "text/event-stream"}) as response:
        for line in response.iter_lines():
            if line.startswith("event: $"):
                is_entry = False
            elif line.startswith("data: ") and is_entry:
                events.append(read(line[6:]))
            elif not line:
                is_entry = True
            if len(events) == count:
                return events


def binary(stream, events):
    for event in events:
        append(stream, http.to_binary_event(event))


def structured(stream, events):
    for event in events:
        append(stream, http.to_structured_event(event))


def batched(stream, events):
    all = [json.loads(http.to_structured_event(event).body) for event in events]
    append(stream, http.HTTPMessage({"content-type": EVENTS}, json.dumps(all).encode()))


for send in [binary, structured, batched]:
    stream = f"{prefix}-{send.__name__}"
    names = [name for name in CASES if send is not binary or name not in NOT_BINARY]
    send(stream, [event(name) for name in names])
    expected = [plain(event(name)) for name in names]

    path = f"/v1/streams/{stream}/entries"
    ranged = batch(call("GET", f"{path}?after=0", headers={"Accept": EVENTS}))
    ids = [entry["id"] for entry in call("GET", f"{path}?after=0").json()["entries"]]
    single = [call("GET", f"{path}/{id}", headers={"Accept": EVENT}) for id in ids]
    single = [http.from_http_event(http.HTTPMessage(one.headers, one.content)) for one in single]
    live = followed(f"/v1/streams/{stream}/events?after=0&as=cloudevents", len(names))
    for how, events in {"a range": ranged, "one by one": single, "followed": live}.items():
        seen = [plain(event) for event in events]
        assert seen == expected, f"{send.__name__}, {how}: {seen} is not {expected}"

    group = f"/v1/streams/{stream}/groups/g"
    call("PUT", group, json={"policy": {"lease": "30s"}})
    asked = {"consumer": "w", "count": 100}
    lent = batch(call("POST", f"{group}/read", json=asked, headers={"Accept": EVENTS}))
    receipts = [event.get_attributes()["streamgatereceipt"] for event in lent]
    results = call("POST", f"{group}/ack", json={"receipts": receipts}).json()["results"]
    assert [result["outcome"] for result in results] == ["acknowledged"] * len(names), results
    assert [result["id"] for result in results] == ids
