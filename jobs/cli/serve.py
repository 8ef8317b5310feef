"""`shoal serve`: the read-only HTTP API over the latest published day, until Ctrl-C."""

import os
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress

from jobs.errors import UserError

TOKEN_VARIABLE = "SHOAL_API_TOKEN"  # noqa: S105
_LEAST_TOKEN = 16  # characters, below which a token can be guessed


def serve_api(lake: str, host: str, port: int) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises UserError without a token, without a publication, and for a port that is taken."""
    token = read_token(os.environ)
    import uvicorn

    from jobs.serve.app import make_app
    from jobs.serve.follower import Follower

    with _open_port(host, port) as listener:
        follower = Follower(lake)
        follower.start()
        # The page's address is printed once, and no request: an id of a customer is in its address.
        server = uvicorn.Server(uvicorn.Config(make_app(follower, token), log_level="warning", access_log=False))
        address, snapshot = f"http://{host}:{listener.getsockname()[1]}/docs", follower.snapshot
        print(f"serve: {address}, {snapshot.day}, {snapshot.n_customers:,} customers (Ctrl-C ends it)", flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # uvicorn raises a signal again once it has ended
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
        follower.stop()
    print("serve: ended", flush=True)


def read_token(environment: Mapping[str, str]) -> str:
    """Return the token that requests must have. Raises UserError where it is not set, or too short to be one."""
    token = environment.get(TOKEN_VARIABLE, "")
    if len(token) < _LEAST_TOKEN:
        wrong = f"has {len(token)} characters, and must have at least {_LEAST_TOKEN}" if token else "is not set"
        raise UserError(f"serve: {TOKEN_VARIABLE} {wrong}; set it to a long random text, which requests then send")
    return token


def _open_port(host: str, port: int) -> socket.socket:
    # With the protocol named, asyncio sends what it is given at once; else an answer waits 40 ms for an acknowledgement.
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port of a process that has just ended is free
    try:
        listener.bind((host, port))
        listener.listen()  # who connects before the server is up waits
        return listener
    except OSError as error:
        listener.close()
        raise UserError(f"serve: port {port} cannot be used ({error.strerror}); choose another: make serve PORT=8091") from None
