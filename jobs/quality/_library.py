"""The import of Great Expectations, which takes seconds: without the statistics of SciPy, which checks do not use."""

import importlib.util
import os
import sys

from jobs.garbage import without_garbage_collection


def import_library() -> None:
    """Import Great Expectations whole: a part of it that another thread imports meanwhile may be incomplete."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    with without_garbage_collection():
        if "great_expectations" not in sys.modules:
            _import_lazily("scipy", "stats")  # a quarter of the import
        import great_expectations  # noqa: F401


def _import_lazily(package: str, name: str) -> None:
    """Import a module of a package so that it is executed when something of it is used."""
    full_name = f"{package}.{name}"
    if full_name in sys.modules or (spec := importlib.util.find_spec(full_name)) is None or spec.loader is None:
        return
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = sys.modules[full_name] = importlib.util.module_from_spec(spec)
    setattr(sys.modules[package], name, module)
    spec.loader.exec_module(module)
