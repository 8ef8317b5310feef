"""One message to one address: tried again with growing pauses, until it is accepted, refused for good, or time is up."""

import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple
from urllib.parse import urlsplit

from jobs.activation._messages import Message, sign_message
from jobs.config.activation import THIS_MACHINE, Webhook
from jobs.progress import log

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
_BUSY = (408, 425, 429)  # answers that ask to come back
_ABOUT_THE_MESSAGE = (400, 413, 422)  # another message may be accepted


class Answer(NamedTuple):
    """What came of the last request of a message. `reason` is None where it was accepted."""

    attempts: int
    reason: str | None
    ends_webhook: bool  # whether other messages would fare no better


class _Failure(NamedTuple):
    reason: str
    is_final: bool
    is_about_message: bool = False
    retry_after: float = 0.0


def send_message(message: Message, webhook: Webhook, secret: str, clock: Callable[[], datetime]) -> Answer:
    """Send a message until it is accepted, refused for good, or `webhook.give_up_seconds` have passed.

    Each request has the time on `clock` and a signature of its own. Redirects are not followed.
    """
    give_up_at = time.monotonic() + webhook.give_up_seconds
    attempts = 0
    while True:
        attempts += 1
        failure = _post(message, webhook, secret, int(clock().timestamp()))
        if failure is None:
            return Answer(attempts, None, False)
        pause = max(min(FIRST_PAUSE_SECONDS * 2 ** (attempts - 1), LONGEST_PAUSE_SECONDS), failure.retry_after)
        if failure.is_final or time.monotonic() + pause > give_up_at:
            return Answer(attempts, failure.reason, not failure.is_about_message)
        log(f"notify {webhook.name}: {failure.reason}; next try in {pause:.0f} s")
        time.sleep(pause)


def _post(message: Message, webhook: Webhook, secret: str, timestamp: int) -> _Failure | None:
    """Send one request; return what went wrong, in words without anything of the address or the answer."""
    headers = {"Content-Type": "application/json", "User-Agent": "Shoal", **sign_message(message, secret, timestamp)}
    request = urllib.request.Request(webhook.address, message.body, headers, method="POST")  # noqa: S310  http or https
    try:
        with _opener(webhook.address).open(request, timeout=webhook.timeout_seconds):
            return None
    except urllib.error.HTTPError as error:
        with error:
            is_final = error.code < 500 and error.code not in _BUSY
            return _Failure(f"answered {error.code}", is_final, error.code in _ABOUT_THE_MESSAGE, _read_pause(error.headers))
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        words = "did not answer in time" if isinstance(cause, TimeoutError) else f"failed ({type(cause).__name__})"
        return _Failure(words, isinstance(cause, ssl.SSLCertVerificationError))


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves a redirect as the error that it is: what is signed for one address is not sent to another."""

    def redirect_request(self, *_) -> None:
        return None


def _opener(address: str) -> urllib.request.OpenerDirector:
    """Return what sends requests, by the proxy that the environment names where the address is not on this machine."""
    is_here = urlsplit(address).hostname in THIS_MACHINE
    return urllib.request.build_opener(_NoRedirects, *([urllib.request.ProxyHandler({})] if is_here else []))


def _read_pause(headers: http.client.HTTPMessage) -> float:
    """Return the seconds of a header Retry-After, at most LONGEST_PAUSE_SECONDS; 0 without, and for a date."""
    text = headers.get("Retry-After", "")
    return min(float(text), LONGEST_PAUSE_SECONDS) if text.isdecimal() else 0.0
