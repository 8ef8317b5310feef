"""A Spark session that is opened beside other work, and only where somebody needs it."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Self

from jobs.progress import log

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class LazySession:
    """A session that begin() starts to open in a thread, open() waits for, and close() ends."""

    def __init__(self, name: str, opener: "Callable[[str, bool], SparkSession] | None" = None):
        """`name` is that of the step in Spark; `opener` takes the place of jobs.engine.session.open_session()."""
        self._name = name
        self._opener = opener
        self._opening: Future[SparkSession] | None = None

    def begin(self, is_short: bool = False) -> None:
        """Start to open the session beside what is being done, for short work or long; a second call does nothing."""
        if self._opening is None:
            thread = ThreadPoolExecutor(1, "spark")
            self._opening = thread.submit(self._open, is_short)
            thread.shutdown(wait=False)

    def open(self) -> "SparkSession":
        """Return the session, once it is open. Raises what opening it raised."""
        self.begin()
        return self._opening.result()

    @property
    def is_begun(self) -> bool:
        """Whether the session is open or about to be."""
        return self._opening is not None

    def close(self) -> None:
        """Stop the session, where it was begun."""
        if self._opening is None or self._opening.exception() is not None:
            return
        self._opening.result().stop()
        self._opening = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _open(self, is_short: bool) -> "SparkSession":
        started = time.monotonic()
        if self._opener is None:
            from jobs.engine.session import open_session  # pyspark takes half a second

            self._opener = open_session
        session = self._opener(self._name, is_short)
        log(f"open  Spark {session.version} {time.monotonic() - started:45.1f} s")
        return session
