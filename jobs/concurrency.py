"""Calls that run at the same time, in threads or in processes."""

import atexit
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

_Key = TypeVar("_Key", bound=Hashable)

THREADS = 2  # while one call waits for Spark's driver, the other computes
# Read once, as Polars does: later, the local runner sets the variable for the workers that it starts.
_COMPUTING_THREADS = int(os.environ.get("POLARS_MAX_THREADS") or os.cpu_count() or 1)


def count_threads() -> int:
    """Return how many threads this process may compute in: a worker process has one, because there is one for each CPU."""
    return _COMPUTING_THREADS


def run_in_parallel(calls: Mapping[_Key, Callable[[], Any]]) -> dict[_Key, Any]:
    """Run the calls in `THREADS` threads and return each result by the key of its call, in the order of `calls`.

    Raises the first error after all calls have ended.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        futures = {key: pool.submit(call) for key, call in calls.items()}
    return {key: future.result() for key, future in futures.items()}


@contextmanager
def call_in_process(function: Callable[..., Any], *arguments: Any) -> Iterator[Future]:
    """Call a function in a process of its own beside the block, which may wait for the result.

    Where the block fails, the process is killed. Its result raises BrokenProcessPool where the process has died.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, mp_context=context, initializer=end_with_parent, initargs=(os.getpid(),))
    others = set(multiprocessing.active_children())
    future = pool.submit(function, *arguments)
    try:
        yield future
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def end_with_parent(parent: int) -> None:
    """End this worker process when the one that started it is gone, even by SIGKILL: it would wait for work for good.

    At its own end nothing is freed: that takes time, and some libraries complain of each other's order.
    """
    atexit.register(os._exit, 0)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
