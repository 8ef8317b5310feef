"""Where the lake, models and reports of a source lie: `make refresh` records it, and later commands look there.

`python -m jobs.config.locations` does so after it has checked, in a second, what would stop the run at its first step.

`<project>/var/refreshed.json` holds {"last": source, "sources": {source: {"lake", "models", "reports"}}}. A source that
was never recorded lies in `<project>/var/<source>`. Variables such as SHOAL_LAKE win where they are set.
"""

import json
import os
import sys
from pathlib import Path

from jobs.config.settings import HOME, load_settings
from jobs.config.source_files import check_any_file
from jobs.config.source_mapping import load_source
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


def check_start(environment: dict[str, str], needs_files: bool) -> None:
    """Raise UserError for what would stop a run at its first step: settings, the source, and with `needs_files` its files."""
    settings = load_settings(environment)
    source = load_source(settings.source)
    if needs_files:
        check_any_file(settings.input, list(source.all_mappings()))
        for lookup in (lookup for mapping in source.all_mappings() for lookup in mapping.lookups):
            check_any_file(settings.input, [lookup])


def main(arguments: list[str]) -> int:
    """Check what a run needs before Airflow starts, then record the roots; returns 2 with one line for an error.

    `--files` says that the files of a day must be there.
    """
    try:
        check_start(dict(os.environ), "--files" in arguments)
        record_refresh(dict(os.environ))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
