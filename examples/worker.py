#!/usr/bin/env python3
"""A worker. It creates its group, with a policy, if there is none:

    python3 worker.py http://127.0.0.1:8080/v1/streams/jobs/groups/mailers w1
    curl http://127.0.0.1:8080/v1/streams/jobs/entries -d to=alice
"""
import json, sys, time, urllib.error, urllib.request

group, consumer = sys.argv[1:3]


def call(verb, **body):
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{group}/{verb}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=70) as answer:
        return json.load(answer)


def work(fields):
    print("mail to", fields["to"], flush=True)


# Mails to one address keep their order. A `lease` is refused for a group without a policy.
policy = {"max_deliveries": 5, "order_by": "to", "on_failure": "skip"}
read = {"count": 10, "wait": "20s", "lease": "30s", "create": True, "policy": policy}
while True:
    try:
        for entry in call("read", consumer=consumer, **read)["entries"]:
            receipts = [entry["receipt"]]
            try:
                work(entry["fields"])
            except Exception as error:  # the entry is delivered again, according to the policy of the group
                call("nack", receipts=receipts, reason=repr(error))
            else:
                call("ack", receipts=receipts)
    except OSError as error:  # unacknowledged entries are delivered again when their leases end
        text = error.read().decode() if isinstance(error, urllib.error.HTTPError) else str(error)
        if '"retryable":false' in text:
            sys.exit(text)
        print(text, file=sys.stderr)
        time.sleep(1)
