"""Follows a stream with httpx-sse; prints each event as a line of JSON.

Reconnects as its documentation recommends: after the delay from the server, with the id of the
last event. Usage: follow_httpx_sse.py URL
"""

import json
import sys
import time

import httpx
from httpx_sse import connect_sse

last_event_id, delay = "", 1.0
with httpx.Client(timeout=httpx.Timeout(5, read=60)) as client:
    while True:
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        try:
            with connect_sse(client, "GET", sys.argv[1], headers=headers) as source:
                for event in source.iter_sse():
                    last_event_id = event.id
                    if event.retry is not None:
                        delay = event.retry / 1000
                    # This client reports a heartbeat as an event without data.
                    if event.data:
                        line = {"event": event.event, "id": event.id, "data": event.data}
                        print(json.dumps(line), flush=True)
        except httpx.TransportError:
            pass  # The connection broke.
        time.sleep(delay)
