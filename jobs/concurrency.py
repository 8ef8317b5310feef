"""Calls that run at the same time."""

from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_Key = TypeVar("_Key", bound=Hashable)

THREADS = 2  # while one call waits for Spark's driver, the other computes


def run_in_parallel(calls: Mapping[_Key, Callable[[], Any]]) -> dict[_Key, Any]:
    """Run the calls in `THREADS` threads and return each result by the key of its call, in the order of `calls`.

    Raises the first error after all calls have ended.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        futures = {key: pool.submit(call) for key, call in calls.items()}
    return {key: future.result() for key, future in futures.items()}
