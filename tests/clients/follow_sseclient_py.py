"""Follows a stream with sseclient-py over requests; prints each event as a line of JSON.

The client leaves reconnecting to its caller. Usage: follow_sseclient_py.py URL
"""

import json
import sys
import time

import requests
import sseclient

last_event_id, delay = None, 1.0
while True:
    headers = {"Accept": "text/event-stream"}
    if last_event_id:
        headers["Last-Event-ID"] = last_event_id
    try:
        response = requests.get(sys.argv[1], headers=headers, stream=True, timeout=(5, 60))
        for event in sseclient.SSEClient(response).events():
            if event.id:
                last_event_id = event.id
            if event.retry:
                delay = int(event.retry) / 1000
            line = {"event": event.event, "id": event.id, "data": event.data}
            print(json.dumps(line), flush=True)
    except requests.RequestException:
        pass  # The connection broke.
    time.sleep(delay)
