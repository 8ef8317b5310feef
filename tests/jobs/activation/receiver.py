"""A receiver of webhooks on this machine that checks signatures, drops what it knows, and fails when it is told to."""

import base64
import hmac
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = "a secret of the tests alone"  # noqa: S105
HANG_SECONDS = 1.0


class Receiver:
    """Answers 200, or what comes next in `script`: a status, "hang", "close", or a function that is called before an answer."""

    def __init__(self, port: int = 0, script: list[int | str | Callable] | None = None) -> None:
        self.script, self.requests, self.events, self.messages = script or [], [], {}, Counter()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                action = receiver.script.pop(0) if receiver.script else 200
                if action == "hang":
                    time.sleep(HANG_SECONDS)
                elif action == "close":
                    self.connection.close()
                elif callable(action):
                    receiver.accept(self.headers, body)
                    action()
                else:
                    self.send_response(action)
                    if action == 302:
                        self.send_header("Location", f"http://localhost:{receiver.port}/elsewhere")
                    self.end_headers()
                    if action == 200:
                        receiver.accept(self.headers, body)

            def log_message(self, *_) -> None:
                """Be quiet."""

        ThreadingHTTPServer.allow_reuse_address = True
        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks?key=hidden"

    def accept(self, headers, body: bytes) -> None:
        """Keep the events of a message whose signature is right, each once."""
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        expected = base64.b64encode(hmac.digest(SECRET.encode(), signed, "sha256")).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"
        self.messages[headers["webhook-id"]] += 1
        for event in json.loads(body)["events"]:
            self.events.setdefault(event["id"], event)

    def summarize(self) -> list[tuple]:
        """Return (customer, event, segment or threshold) of the events, by customer."""
        rows = [(e["customer_id"], e["event"], e.get("segment_id", e.get("threshold"))) for e in self.events.values()]
        return sorted(rows, key=lambda row: row[0])  # stable: as they came

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
