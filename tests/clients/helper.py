"""Runs clients/streamgate.py for tests/it/client_files.rs. Prints a line of JSON for each thing that happens."""
import json
import sys
import threading
import time

sys.path.insert(0, sys.argv[1])
from streamgate import Gateway, Problem, Reject, Retry, Worker  # noqa: E402

task, url, stream = sys.argv[2:5]
more = json.loads(sys.argv[5])
gateway = Gateway(url, timeout=5.0)
printing = threading.Lock()


def tell(**what):
    with printing:
        print(json.dumps(what), flush=True)


def publish():
    for n in range(more["count"]):
        tell(n=n, id=gateway.publish(stream, {"n": str(n)}, patience=90.0))
        time.sleep(more["pause"])


def follow():
    query = {"end": more["end"]} if "end" in more else {}
    for event in gateway.follow(stream, after="0", store=more.get("store"), **query):
        tell(kind=event.kind, position=event.position, data=event.data)
    tell(kind="complete")


def handle(entry):
    n = entry.fields["n"]
    tell(begins=n, deliveries=entry.deliveries)
    time.sleep(more["seconds"])
    if n == "reject":
        raise Reject("nonsense")
    if n == "retry" and entry.deliveries == 1:
        raise Retry("later", delay="100ms")
    if n == "fail" and entry.deliveries == 1:
        raise ValueError("broken")
    tell(ends=n)


def work():
    options = {name: more[name] for name in ("policy", "grace") if name in more}
    worker = Worker(gateway, stream, "g", more["consumer"], handle, concurrency=more["concurrency"],
                    lease=more["lease"], **options)
    worker.run()
    tell(stopped=True)


try:
    {"publish": publish, "follow": follow, "work": work}[task]()
except Problem as problem:
    sys.exit(str(problem))
