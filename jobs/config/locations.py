"""Where the lake, models and reports of a source lie: `make refresh` records it, and later commands look there.

`<project>/var/refreshed.json` holds {"last": source, "sources": {source: {"lake", "models", "reports"}}}. A source that
was never recorded lies in `<project>/var/<source>`. Variables such as SHOAL_LAKE win where they are set.
"""

import json
import os
from pathlib import Path

from jobs.config.settings import HOME
from jobs.errors import UserError
from jobs.storage.files import write_atomically

ROOTS = ("lake", "models", "reports")
RECORD = HOME / "var" / "refreshed.json"


def record_refresh(environment: dict[str, str]) -> None:
    """Record SHOAL_LAKE, SHOAL_MODELS and SHOAL_REPORTS as the roots of SHOAL_SOURCE, the source refreshed last."""
    source = _source_name(environment["SHOAL_SOURCE"])
    sources = _read_record().get("sources", {})
    sources[source] = {root: environment[f"SHOAL_{root.upper()}"] for root in ROOTS}
    sources[source]["mapping"] = environment["SHOAL_SOURCE"]
    write_atomically(str(RECORD), json.dumps({"last": source, "sources": sources}, indent=1).encode())


def locate_source(environment: dict[str, str], source: str | None) -> dict[str, str]:
    """Return the environment with the roots of `source`, or of the source refreshed last, where it sets none.

    Another settings file than conf/local.toml (SHOAL_ENV) has roots of its own: without `source` it stays as it is.
    """
    record = _read_record()
    if source is None and (environment.get("SHOAL_ENV", "local") != "local" or "last" not in record):
        return environment
    name = _source_name(source or record["last"])
    roots = record.get("sources", {}).get(name, {root: f"var/{name}/{root}" for root in ROOTS})
    located = {f"SHOAL_{root.upper()}": roots[root] for root in ROOTS} | environment
    if source or "SHOAL_SOURCE" not in environment:
        located["SHOAL_SOURCE"] = source or roots.get("mapping", name)
    return located


def _source_name(source: str) -> str:
    """
    >>> _source_name("sample"), _source_name("conf/sources/mine.toml")
    ('sample', 'mine')
    """
    return Path(source).name.removesuffix(".toml")


def _read_record() -> dict:
    try:
        return json.loads(RECORD.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        raise UserError(f"settings: {RECORD} is damaged; remove it, or name the lake with SHOAL_LAKE") from None


if __name__ == "__main__":
    record_refresh(dict(os.environ))
