#!/usr/bin/env python3
"""A worker: python3 worker.py http://127.0.0.1:8080/v1/streams/jobs/groups/mailers w1"""
import json, sys, time, urllib.error, urllib.request

group, consumer = sys.argv[1:3]


def call(verb, **body):
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{group}/{verb}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=70) as answer:
        return json.load(answer)


def work(fields):
    print("mail to", fields["to"], flush=True)


while True:
    try:
        for entry in call("read", consumer=consumer, count=10, wait="20s")["entries"]:
            receipts = [entry["receipt"]]
            try:
                work(entry["fields"])
            except Exception as error:  # the entry is delivered again, according to the policy of the group
                call("nack", receipts=receipts, reason=repr(error))
            else:
                call("ack", receipts=receipts)
    except OSError as error:  # unacknowledged entries are delivered again when their leases end
        print(error, file=sys.stderr)
        time.sleep(1)
