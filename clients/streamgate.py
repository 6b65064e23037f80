"""A client of streamgate: publisher, follower and worker. Copy this file into your project.

It needs Python 3.8 or newer and nothing but the standard library.

    gateway = Gateway("http://127.0.0.1:8080", token="sgk_...")
    gateway.publish("orders", {"user": "alice"})            # repeated safely, appended once
    for event in gateway.follow("orders", after="0"):       # reconnects and resumes
        print(event.position, event.data)
    Worker(gateway, "jobs", "mailers", "w1", send_mail).run()   # until SIGTERM
"""
import http.client
import json
import logging
import os
import random
import signal
import socket
import threading
import time
import uuid
from urllib.parse import quote, urlencode, urlsplit

log = logging.getLogger("streamgate")

# An answer that a broken connection or a timeout prevented.
_LOST = (OSError, http.client.HTTPException)


class Problem(Exception):
    """An error of the gateway, or of a proxy before it (then `code` is None)."""

    def __init__(self, status, headers, body):
        try:
            problem = json.loads(body)
            problem = problem if isinstance(problem, dict) else {}
        except ValueError:
            problem = {}
        self.status, self.code = status, problem.get("code")
        # A proxy cannot say whether the gateway got the request.
        self.retryable = problem.get("retryable", status in (408, 429, 502, 503, 504))
        self.side_effects = problem.get("side_effects", "unknown")
        after = headers.get("Retry-After", "")
        self.retry_after = int(after) if after.isdigit() else None
        detail = problem.get("detail") or repr(body[:200])
        super().__init__(f"{status} {self.code or ''}: {detail}")


class Backoff:
    """Delays between attempts: exponential with full jitter, between 0.1 s and 30 s."""

    def __init__(self):
        self.attempt = 0

    def next(self, at_least=0.0):
        self.attempt += 1
        return max(at_least, 0.1 + random.random() * min(30.0, 0.2 * 2 ** min(self.attempt, 10)))


class Gateway:
    """A gateway. `token` is an API key or a JWT, or a function that returns one."""

    def __init__(self, url, token=None, timeout=30.0):
        parts = urlsplit(url)
        self._secure, self._address = parts.scheme == "https", parts.netloc
        self._base, self._token, self.timeout = parts.path.rstrip("/"), token, timeout

    def connect(self, timeout=None):
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return kind(self._address, timeout=timeout or self.timeout)

    def send(self, connection, method, path, body=None, headers=None):
        """Sends one request and returns the answer. Raises Problem for an error status."""
        headers = {"Content-Type": "application/json", **(headers or {})}
        token = self._token() if callable(self._token) else self._token
        if token:
            headers["Authorization"] = f"Bearer {token}"
        text = None if body is None else json.dumps(body)
        connection.request(method, self._base + path, text, headers)
        answer = connection.getresponse()
        if answer.status >= 400:
            raise Problem(answer.status, answer.headers, answer.read())
        return answer

    def call(self, method, path, body=None, headers=None, timeout=None):
        """Sends one request and returns the JSON of the answer. Never repeats it."""
        connection = self.connect(timeout)
        try:
            text = self.send(connection, method, path, body, headers).read()
            return json.loads(text) if text else None
        finally:
            connection.close()

    def repeat(self, method, path, body=None, headers=None, safe=False, patience=60.0):
        """Repeats a request until it is answered, for at most `patience` seconds.

        Repeats what the gateway calls retryable. If the request may have had an effect, repeats it
        only if a repetition is `safe`.
        """
        backoff, until = Backoff(), time.monotonic() + patience
        while True:
            try:
                return self.call(method, path, body, headers)
            except Problem as problem:
                pause = backoff.next(problem.retry_after or 0)
                unsafe = not safe and problem.side_effects != "none"
                if not problem.retryable or unsafe or time.monotonic() + pause > until:
                    raise
            except _LOST:
                pause = backoff.next()
                if not safe or time.monotonic() + pause > until:
                    raise
            time.sleep(pause)

    def publish(self, stream, fields, key=None, patience=60.0, **query):
        """Appends an entry, once, and returns its id.

        `key` identifies the entry; by default it is random. Repeats a failed append with the same
        key for `patience` seconds, which must be less than the idempotency window of the gateway
        (10 minutes). `query` has further parameters, such as `maxlen=1000`.
        """
        path = f"/v1/streams/{quote(stream, safe='')}/entries" + ("?" + urlencode(query) if query else "")
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        return self.repeat("POST", path, {"fields": fields}, headers, safe=True, patience=patience)["id"]

    def follow(self, *streams, after="$", store=None, **query):
        """Returns a Follower of one or more streams."""
        return Follower(self, streams, after, store, query)


class Event:
    """An event of a follower.

    `kind` is `entry`, `gap` (entries are gone), `reset` (the stream was replaced) or `progress` (only
    the position moved). `position` is where to resume after the event.
    """

    def __init__(self, kind, data, position):
        self.kind, self.data, self.position = kind, data, position

    def __repr__(self):
        return f"Event({self.kind!r}, {self.data!r}, {self.position!r})"


class Follower:
    """An iterator over the events of streams, which reconnects and resumes exactly.

    Ends when `end=` is reached, or after `stop()`. Raises Problem for an error that a retry cannot
    fix. With `store`, a path, the position is kept in that file over restarts of the process; the
    file is written when the next event is asked for, so an unfinished event comes again.
    """

    # The gateway sends a heartbeat every 15 s.
    SILENCE = 60.0

    def __init__(self, gateway, streams, after="$", store=None, query=None):
        self._gateway, self._store, self._query = gateway, store, dict(query or {})
        self._streams, self.position = streams, None
        if store and os.path.exists(store):
            with open(store, encoding="utf-8") as file:
                self.position = file.read().strip() or None
        self._after, self._connection, self._stopped = after, None, threading.Event()

    def stop(self):
        """Ends the iteration, from any thread or signal handler."""
        self._stopped.set()
        _shut(self._connection)

    def _path(self):
        query = list(self._query.items())
        if self.position is None:
            query.append(("after", self._after))
        if len(self._streams) == 1:
            return f"/v1/streams/{quote(self._streams[0], safe='')}/events?{urlencode(query)}"
        query += [("stream", name.replace("\\", "\\\\").replace(",", "\\,") + "@" + self._after) for name in self._streams]
        return f"/v1/events?{urlencode([pair for pair in query if pair[0] != 'after'])}"

    def __iter__(self):
        backoff = Backoff()
        while not self._stopped.is_set():
            pause = 0.0
            self._connection = self._gateway.connect(self.SILENCE)
            try:
                headers = {"Accept": "text/event-stream"}
                if self.position is not None:
                    headers["Last-Event-ID"] = self.position
                answer = self._gateway.send(self._connection, "GET", self._path(), headers=headers)
                if answer.status == 204:  # the end was reached before
                    return
                for name, data, position, retry in _events(answer):
                    pause = retry if retry is not None else pause
                    data = json.loads(data)
                    if name == "$error":
                        raise Problem(data.get("status", 400), {}, json.dumps(data))
                    if name == "$end" and data["reason"] == "complete":
                        self._keep(position)
                        return
                    if name in ("$end", "$open"):
                        self._keep(position)
                        continue
                    backoff = Backoff()
                    kind = name[1:] if name in ("$gap", "$reset", "$progress") else "entry"
                    yield Event(kind, data, position)
                    self._keep(position)
                    if self._stopped.is_set():
                        return
            except Problem as problem:
                if not problem.retryable:
                    raise
                pause = max(pause, problem.retry_after or 0)
            except _LOST as error:
                log.debug("reconnecting: %s", error)
            finally:
                self._connection.close()
            self._stopped.wait(backoff.next(pause))

    def _keep(self, position):
        if position is None or position == self.position:
            return
        self.position = position
        if self._store:
            with open(self._store + ".new", "w", encoding="utf-8") as file:
                file.write(position)
            os.replace(self._store + ".new", self._store)


def _events(answer):
    """Yields name, data, position and retry of each event of an event stream."""
    name, data, position, retry = "message", [], None, None
    while True:
        line = answer.readline()
        if not line.endswith(b"\n"):  # the connection ended; the event is incomplete
            return
        line = line.rstrip(b"\r\n").decode()
        if not line:
            if data:
                yield name, "\n".join(data), position, retry
            name, data, retry = "message", [], None
            continue
        field, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            position = value
        elif field == "retry":
            retry = int(value) / 1000


def _shut(connection):
    """Ends a connection whose answer another thread waits for."""
    try:
        connection.sock.shutdown(socket.SHUT_RDWR)
    except (AttributeError, OSError):
        pass


class Retry(Exception):
    """Raised by a handler: deliver the entry again, after `delay` such as "30s" or the backoff of the policy."""

    def __init__(self, reason="", delay=None):
        super().__init__(reason)
        self.delay = delay


class Reject(Exception):
    """Raised by a handler: the entry becomes a dead letter."""


class Entry:
    """An entry that a worker holds. `lost` is set if its lease was lost; another worker has it then.

    An entry whose names repeat or are not UTF-8 has `pairs`, a list of names and values, and no `fields`.
    """

    def __init__(self, stream, entry):
        self.stream, self.id = stream, entry["id"]
        self.fields, self.pairs = entry.get("fields"), entry.get("pairs")
        self.deliveries, self.receipt, self.lost = entry["deliveries"], entry["receipt"], threading.Event()
        self.extend_at = 0.0


class Worker:
    """Processes the entries of a group, `concurrency` at a time.

    `handler(entry)` acknowledges the entry by returning, and hands it back by raising. While it
    runs, its lease is extended. The worker reads only entries that it begins at once. The group is
    created with `policy` on first use, and again if it is lost, which needs the right `manage`;
    `policy=None` requires an existing group with a policy.
    """

    def __init__(self, gateway, stream, group, consumer, handler, *, concurrency=1, lease=30.0,
                 policy=None, grace=25.0):
        self._gateway, self._stream, self._consumer, self._handler = gateway, stream, consumer, handler
        self._group = f"/v1/streams/{quote(stream, safe='')}/groups/{quote(group, safe='')}"
        self._concurrency, self._lease, self._policy, self._grace = concurrency, lease, policy, grace
        self._stopping, self._reading = threading.Event(), None
        # Guards `_held`, and the receipts of its entries while they are extended.
        self._lock, self._held = threading.Lock(), set()
        self._free = threading.Semaphore(concurrency)

    def stop(self):
        """Stops reading, from any thread or signal handler. `run` returns when all entries are settled."""
        self._stopping.set()
        # The gateway takes back what it reads for a connection that is gone.
        _shut(self._reading)

    def run(self, signals=True):
        """Works until `stop`, or until SIGTERM or SIGINT. Raises Problem if a read can never succeed."""
        if signals and threading.current_thread() is threading.main_thread():
            for name in (signal.SIGTERM, signal.SIGINT):
                # A handler must not take locks that the interrupted thread may hold.
                signal.signal(name, lambda *_: threading.Thread(target=self.stop).start())
        done = threading.Event()
        keeper = threading.Thread(target=self._keep_leases, args=(done,), daemon=True)
        keeper.start()
        try:
            self._read_until_stopped()
        finally:
            self._stopping.set()
            until = time.monotonic() + self._grace
            while self._held and time.monotonic() < until:
                time.sleep(0.02)
            done.set()
            for entry in list(self._held):  # the handlers did not finish in time
                self._settle(entry, "nack", delay="0ms", reason="the worker stopped", patience=5.0)

    def _read_until_stopped(self):
        backoff = Backoff()
        while not self._stopping.is_set():
            if not self._free.acquire(timeout=0.1):
                continue
            count = 1
            while count < self._concurrency and self._free.acquire(blocking=False):
                count += 1
            entries = []
            try:
                entries = self._read(count)
                backoff = Backoff()
            except Problem as problem:
                if not problem.retryable:
                    raise
                log.warning("cannot read: %s", problem)
                self._stopping.wait(backoff.next(problem.retry_after or 0))
            except _LOST as error:
                if not self._stopping.is_set():
                    log.warning("cannot read: %s", error)
                    self._stopping.wait(backoff.next())
            finally:
                for _ in range(count - len(entries)):
                    self._free.release()
            for entry in entries:
                threading.Thread(target=self._work, args=(entry,), daemon=True).start()

    def _read(self, count):
        body = {"consumer": self._consumer, "count": count, "wait": "20s", "lease": _duration(self._lease)}
        if self._policy is not None:
            body.update(create=True, policy=self._policy)
        connection = self._gateway.connect(20 + self._gateway.timeout)
        try:
            connection.connect()
            self._reading = connection
            if self._stopping.is_set():
                return []
            answer = self._gateway.send(connection, "POST", self._group + "/read", body)
            read = [Entry(self._stream, entry) for entry in json.loads(answer.read())["entries"]]
        finally:
            self._reading = None
            connection.close()
        with self._lock:
            for entry in read:
                entry.extend_at = time.monotonic() + self._lease / 3
                self._held.add(entry)
        return read

    def _work(self, entry):
        try:
            try:
                self._handler(entry)
            except Reject as error:
                self._settle(entry, "reject", reason=str(error) or "rejected")
            except Retry as error:
                delay = {"delay": error.delay} if error.delay else {}
                self._settle(entry, "nack", reason=str(error) or "retry", **delay)
            except Exception as error:  # whatever fails is tried again, as the policy says
                log.warning("entry %s failed: %r", entry.id, error)
                self._settle(entry, "nack", reason=repr(error)[:200])
            else:
                self._settle(entry, "ack")
        finally:
            self._free.release()

    def _settle(self, entry, verb, patience=60.0, **more):
        """Ends the lease of an entry. If that fails for good, the entry is delivered again."""
        with self._lock:
            if entry not in self._held:
                return
            entry.extend_at = float("inf")
        try:
            while True:
                body = {"receipts": [entry.receipt], **more}
                done = self._gateway.repeat("POST", f"{self._group}/{verb}", body, safe=True, patience=patience)
                if done["results"][0]["outcome"] != "lease-lost":
                    return
                if not self._find_receipt(entry):
                    log.warning("%s of entry %s came too late", verb, entry.id)
                    return
        except (Problem, *_LOST) as error:
            log.warning("%s of entry %s failed: %s", verb, entry.id, error)
        finally:
            with self._lock:
                self._held.discard(entry)

    def _keep_leases(self, done):
        """Extends each lease when a third of it has passed, until the entry is settled."""
        while not done.wait(min(0.2, self._lease / 10)):
            with self._lock:
                now = time.monotonic()
                due = [entry for entry in self._held if entry.extend_at <= now]
                if due:
                    self._extend(due)

    def _extend(self, due):
        body = {"receipts": [entry.receipt for entry in due], "lease": _duration(self._lease)}
        begun, timeout = time.monotonic(), max(1.0, self._lease / 6)
        try:
            results = self._gateway.call("POST", self._group + "/extend", body, timeout=timeout)["results"]
        except (Problem, *_LOST) as error:
            log.warning("cannot extend leases: %s", error)
            for entry in due:
                entry.extend_at = time.monotonic() + self._lease / 10
            return
        for entry, result in zip(due, results):
            if result["outcome"] == "extended":
                entry.receipt, entry.extend_at = result["receipt"], begun + self._lease / 3
            elif self._find_receipt(entry):
                entry.extend_at = 0.0
            else:
                log.warning("the lease of entry %s is lost: %s", entry.id, result["outcome"])
                entry.lost.set()
                entry.extend_at = float("inf")
                self._held.discard(entry)

    def _find_receipt(self, entry):
        """Finds the receipt of an entry that is still held, after the answer to `extend` was lost."""
        number, _, sequence = entry.id.partition("-")
        before = f"{number}-{int(sequence) - 1}" if sequence != "0" else f"{int(number) - 1}-{2**64 - 1}"
        body = {"consumer": self._consumer, "count": 1, "history": before}
        try:
            found = self._gateway.repeat("POST", self._group + "/read", body, safe=True, patience=self._lease / 2)
        except (Problem, *_LOST):
            return False
        for one in found["entries"]:
            same = one["id"] == entry.id and one["deliveries"] == entry.deliveries
            if same and one["receipt"] not in (None, entry.receipt):
                entry.receipt = one["receipt"]
                return True
        return False


def _duration(seconds):
    return f"{int(seconds * 1000)}ms"
