"""The HTTP API: what each address answers. Every answer is of one publication, whose day it names."""

import hmac
import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from jobs.serve import models
from jobs.serve.follower import Follower
from jobs.serve.snapshot import RECOMMENDATIONS, Snapshot

MOST_ROWS = 1000  # of a page
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS, description="Rows of a page at most")]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before; left out: the first page")]


def make_app(follower: Follower, token: str) -> FastAPI:
    """Return the application. Every address but those of its own description asks for the token."""
    app = FastAPI(
        title="Shoal",
        description="Customer segments, what customers are worth, and what changed, as of the latest published day.",
        dependencies=[Depends(_token_check(token))],
    )
    _add_customers(app, follower)
    _add_segments(app, follower)
    _add_changes(app, follower)
    return app


def _token_check(token: str) -> Callable:
    """Return a check of the header `Authorization: Bearer TOKEN`, which takes as long for every wrong token."""

    async def check_token(sent: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]) -> None:
        if sent is None or not hmac.compare_digest(sent.credentials.encode(), token.encode()):
            raise HTTPException(401, "send the header Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})

    return check_token


def _add_customers(app: FastAPI, follower: Follower) -> None:
    @app.get("/customers/{customer_id}", response_model=models.CUSTOMER_ANSWER, responses=models.NOT_FOUND)
    async def customer(customer_id: str) -> Response:
        """A customer: the segment, since when and why, and what they are worth."""
        snapshot = follower.snapshot
        return _answer(snapshot, snapshot.describe_customer(_find_customer(snapshot, customer_id)))

    @app.get("/customers/{customer_id}/recommendations", response_model=models.RECOMMENDATIONS_ANSWER, responses=models.NOT_FOUND)
    async def recommendations(customer_id: str) -> Response:
        """Products to offer a customer, the best first; none for customers who get no offers."""
        snapshot = follower.snapshot
        rows = snapshot.list_scores(RECOMMENDATIONS, _find_customer(snapshot, customer_id))
        if rows is None:
            raise HTTPException(404, f"{RECOMMENDATIONS.name} was not published with {snapshot.day}")
        return _answer(snapshot, {"customer_id": customer_id, "recommendations": rows})


def _add_segments(app: FastAPI, follower: Follower) -> None:
    @app.get("/segments", response_model=models.SEGMENTS_ANSWER)
    async def segments() -> Response:
        """The segments of the day, without what marks them."""
        snapshot = follower.snapshot
        rows = [{name: row[name] for name in row if name != "traits"} for row in snapshot.list_segments()]
        return _answer(snapshot, {"segments": rows})

    @app.get("/segments/{segment_id}", response_model=models.SEGMENT_ANSWER, responses=models.NOT_FOUND)
    async def segment(segment_id: int) -> Response:
        """A segment: its size, its money, and the features that mark it."""
        snapshot = follower.snapshot
        return _answer(snapshot, _find_segment(snapshot, segment_id))

    @app.get("/segments/{segment_id}/customers", response_model=models.MEMBERS_ANSWER, responses=models.PAGED)
    def members(segment_id: int, limit: Limit = 100, cursor: Cursor = None) -> Response:
        """The customers of a segment, by id."""
        snapshot = follower.snapshot
        _find_segment(snapshot, segment_id)
        rows, following = snapshot.list_members(segment_id, _read_cursor(snapshot, cursor), limit)
        return _answer(snapshot, {"customers": rows, "next_cursor": _write_cursor(snapshot, following)})


def _add_changes(app: FastAPI, follower: Follower) -> None:
    @app.get("/changes", response_model=models.CHANGES_ANSWER, responses=models.PAGED)
    def changes(since: date, limit: Limit = 100, cursor: Cursor = None) -> Response:
        """Customers whose segment is another one than at the end of the day `since`, by id."""
        snapshot = follower.snapshot
        if since >= snapshot.day:
            raise HTTPException(400, f"since={since} is not before {snapshot.day}, the day that is served")
        rows, start = snapshot.list_changes(since), _read_cursor(snapshot, cursor)
        following = start + limit if start + limit < rows.num_rows else None
        page = rows.slice(start, limit).to_pylist()
        return _answer(snapshot, {"since": since, "changes": page, "next_cursor": _write_cursor(snapshot, following)})


def _find_customer(snapshot: Snapshot, customer_id: str) -> int:
    place = snapshot.find_customer(customer_id)
    if place is None:
        raise HTTPException(404, f"no customer {customer_id} is known on {snapshot.day}")
    return place


def _find_segment(snapshot: Snapshot, segment_id: int) -> dict:
    profile = snapshot.describe_segment(segment_id)
    if profile is None:
        raise HTTPException(404, f"no segment {segment_id} is published for {snapshot.day}")
    return profile


def _write_cursor(snapshot: Snapshot, place: int | None) -> str | None:
    return None if place is None else f"{snapshot.id}-{place}"


def _read_cursor(snapshot: Snapshot, cursor: str | None) -> int:
    """Return the place that a page begins at. Raises HTTPException for a cursor of another publication."""
    if cursor is None:
        return 0
    publication, _, place = cursor.partition("-")
    if not (place.isdecimal() and place.isascii() and len(place) < 10):
        raise HTTPException(400, "cursor is none that this address has given")
    if publication != snapshot.id:
        raise HTTPException(409, f"{snapshot.day} was published since the first page; begin again without a cursor")
    return int(place)


def _answer(snapshot: Snapshot, content: dict) -> Response:
    """Return JSON of these columns and of the day."""
    text = json.dumps({"day": snapshot.day, **content}, default=_to_json, separators=(",", ":"))
    return Response(text, media_type="application/json")


def _to_json(value: Any) -> str | float:
    return float(value) if isinstance(value, Decimal) else value.isoformat()
