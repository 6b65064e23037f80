#!/usr/bin/env python3
"""Forwards the entries of a stream to an HTTP endpoint, signed as Standard Webhooks.

    export WEBHOOK_SECRET=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
    python3 forwarder.py --stream orders --to https://example.com/webhooks
    curl http://127.0.0.1:8080/v1/streams/orders/entries -d type=order.paid -d user=alice

The group of the forwarder is created on first use. An endpoint acknowledges by a 2xx status within
the timeout. Otherwise the entry comes again after the delays of `--backoff`, and then is a dead letter:

    curl http://127.0.0.1:8080/v1/streams/orders/groups/webhooks/dead-letters

Endpoints verify `webhook-signature` and ignore a `webhook-id` that they have processed.
See https://www.standardwebhooks.com. Stops on SIGTERM.
"""
import argparse
import base64
import datetime
import hashlib
import hmac
import http.client
import json
import logging
import os
import pathlib
import socket
import sys
import time
from urllib.parse import urlsplit

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent.parent / "clients"))  # or copy streamgate.py
from streamgate import Gateway, Problem, Reject, Retry, Worker  # noqa: E402


def sign(secret, message_id, timestamp, body):
    """Returns the signature of a message, version 1: HMAC-SHA256."""
    key = base64.b64decode(secret[len("whsec_"):] if secret.startswith("whsec_") else secret)
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def message(entry):
    """Returns the id and the body of the message for an entry. Both are the same at each attempt."""
    milliseconds = int(entry.id.split("-")[0])
    when = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.timezone.utc)
    data = dict(entry.fields) if entry.fields is not None else {"pairs": entry.pairs}
    body = {
        "type": data.pop("type", entry.stream),
        "timestamp": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "data": data,
    }
    stream = hashlib.sha256(entry.stream.encode()).hexdigest()[:8]
    return f"msg_{stream}_{entry.id}", json.dumps(body).encode()


def forwarder(url, secret, timeout):
    """Returns the handler that sends an entry to the endpoint."""
    endpoint = urlsplit(url)
    kind = http.client.HTTPSConnection if endpoint.scheme == "https" else http.client.HTTPConnection
    path = (endpoint.path or "/") + (f"?{endpoint.query}" if endpoint.query else "")

    def forward(entry):
        message_id, body = message(entry)
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "streamgate-webhook-forwarder",
            "webhook-id": message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": sign(secret, message_id, timestamp, body),
        }
        connection = kind(endpoint.netloc, timeout=timeout)
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            status, after = answer.status, answer.headers.get("Retry-After", "")
        except (OSError, http.client.HTTPException) as error:
            raise Retry(f"no answer from the endpoint: {error!r}") from None
        finally:
            connection.close()
        if 200 <= status < 300:
            logging.info("forwarded %s", message_id)
        elif status == 410:  # the endpoint wants no more
            raise Reject("the endpoint answered 410")
        elif status in (429, 503) and after.isdigit():
            raise Retry(f"the endpoint answered {status}", delay=f"{min(max(int(after), 1), 43200)}s")
        else:  # also a redirect, which is not followed
            raise Retry(f"the endpoint answered {status}")

    return forward


def main():
    parser = argparse.ArgumentParser(description="Forwards a stream to an HTTP endpoint.")
    parser.add_argument("--gateway", default="http://127.0.0.1:8080", help="URL of the gateway")
    parser.add_argument("--stream", required=True)
    parser.add_argument("--group", default="webhooks")
    parser.add_argument("--consumer", default=f"forwarder-{socket.gethostname()}")
    parser.add_argument("--to", required=True, help="URL of the endpoint")
    parser.add_argument("--backoff", default="5s,1m,10m,1h,6h", help="delays between attempts")
    parser.add_argument("--timeout", type=float, default=15.0, help="seconds for one attempt")
    parser.add_argument("--concurrency", type=int, default=4)
    options = parser.parse_args()
    secret, token = os.environ.get("WEBHOOK_SECRET"), os.environ.get("STREAMGATE_TOKEN")
    if not secret:
        parser.error("set WEBHOOK_SECRET to the secret that the endpoint knows")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    backoff = options.backoff.split(",")
    policy = {"backoff": backoff, "max_deliveries": len(backoff) + 1}
    worker = Worker(
        Gateway(options.gateway, token=token), options.stream, options.group, options.consumer,
        forwarder(options.to, secret, options.timeout),
        concurrency=options.concurrency, policy=policy, grace=options.timeout + 5,
    )
    try:
        worker.run()
    except Problem as problem:
        sys.exit(f"cannot work: {problem}")


if __name__ == "__main__":
    main()
