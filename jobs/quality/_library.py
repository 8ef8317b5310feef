"""The import of Great Expectations, which takes seconds: without what it imports and checks do not use."""

import importlib.util
import os
import sys

_UNUSED = ("scipy.stats", "altair")  # a third of the import; loaded when something of them is used


def import_library() -> None:
    """Import Great Expectations whole: a part of it that another thread imports meanwhile may be incomplete."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    if "great_expectations" not in sys.modules:
        for name in _UNUSED:
            _import_lazily(name)
    import great_expectations  # noqa: F401


def _import_lazily(name: str) -> None:
    """Import a module that is executed when it is first used; nothing where it is missing or imported."""
    parent, _, child = name.rpartition(".")
    if name in sys.modules or not importlib.util.find_spec(parent or name):
        return
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    if parent:
        setattr(sys.modules[parent], child, module)
    spec.loader.exec_module(module)
