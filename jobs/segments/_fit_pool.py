"""Threads in which scikit-learn fits run at the same time."""

import os
from concurrent.futures import ThreadPoolExecutor

from threadpoolctl import threadpool_limits


def open_fit_pool() -> ThreadPoolExecutor:
    """Return a pool with one worker per core, each limited to one thread.

    A sum over several threads depends on which thread ends first; with one thread a fit repeats bit for bit.
    """
    return ThreadPoolExecutor(os.cpu_count(), initializer=threadpool_limits, initargs=(1,))
