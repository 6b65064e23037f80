#!/usr/bin/env python3
"""Streams answers of a language model to a page, which resumes them after a reload.

Start a gateway that allows the page, then this server, and open http://127.0.0.1:8000/:

    streamgate dev --allow-origin http://127.0.0.1:8000
    python3 examples/token-stream/server.py http://127.0.0.1:8080

With an auth file, set STREAMGATE_TOKEN to an API key with the grant `publish,subscribe answer:*`.
"""
import json
import os
import pathlib
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "clients"))  # or copy streamgate.py next to this file
from streamgate import Gateway, Problem  # noqa: E402

# The id of the last entry of each answer. Pages follow an answer with `end=` this id, so the gateway
# ends the stream when the answer is complete, also for a page that comes later.
END = "9999999999999-0"

URL = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
PORT = int(sys.argv[2]) if len(sys.argv) > 2 else 8000
TOKEN = os.environ.get("STREAMGATE_TOKEN")
gateway = Gateway(URL, token=TOKEN)


def generate(prompt):
    """Yields the chunks of an answer. Put the call of your model here."""
    answer = f"You asked: {prompt} " + " ".join(f"Word {n} of the answer." for n in range(1, 41))
    for word in answer.split(" "):
        time.sleep(0.05)
        yield word + " "


def write(stream, prompt):
    """Publishes an answer chunk by chunk. Each chunk has its own id, so a retry cannot repeat it."""
    try:
        for n, chunk in enumerate(generate(prompt), 1):
            gateway.publish(stream, {"text": chunk}, key=str(n), id=f"{n}-0")
        gateway.publish(stream, {"done": "true"}, key="end", id=END)
    except Exception as error:  # the page must not wait for the rest
        gateway.publish(stream, {"error": str(error)}, key="end", id=END)
        raise


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path.split("?")[0] == "/":
            return self.answer(200, (HERE / "page.html").read_bytes(), "text/html; charset=utf-8")
        return self.answer(404, b"not found\n", "text/plain")

    def do_POST(self):
        """`/answers` begins an answer, `/tickets` gives a page access to one. Both return its address."""
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        try:
            if self.path == "/answers":
                stream = f"answer:{uuid.uuid4()}"
                threading.Thread(target=write, args=(stream, str(body["prompt"])), daemon=True).start()
            elif self.path == "/tickets" and str(body["stream"]).startswith("answer:"):
                stream = body["stream"]  # a real server checks that the answer is this user's
            else:
                return self.answer(404, b"not found\n", "text/plain")
            query = {"end": END}
            if TOKEN:
                made = gateway.repeat("POST", "/v1/tickets", {"streams": [stream], "ttl": "1h"}, safe=True)
                query["ticket"] = made["ticket"]
        except (KeyError, TypeError, AttributeError):
            return self.answer(400, b"`prompt` or `stream` is missing\n", "text/plain")
        except (Problem, OSError) as error:
            return self.answer(502, f"{error}\n".encode(), "text/plain")
        made = {"stream": stream, "gateway": URL, "query": query}
        return self.answer(200, json.dumps(made).encode(), "application/json")

    def answer(self, status, body, media_type):
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", PORT), Server)
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()
