"""Publishing of a day: the tables that BI reads, and last the manifest row that names them."""

from collections.abc import Callable
from datetime import date, datetime
from functools import partial

from jobs.concurrency import run_in_parallel
from jobs.config.settings import Settings
from jobs.marts import customer_segments, effects, refreshes, segment_changes, segment_demand, segment_moves, segment_profiles
from jobs.quality.omissions import write_omissions
from jobs.storage.lake import Lake

# effects writes marts.campaign_uplift too.
OTHER_TABLES = (segment_profiles, segment_changes, segment_moves, segment_demand, effects)


def run(
    lake: Lake,
    settings: Settings,
    days: list[date],
    run_id: str,
    started_at: datetime,
    clock: Callable[[], datetime],
    engine: str | None = None,
) -> None:
    """Publish each day: marts.refreshes names the run `run_id`, begun at `started_at`, and the time on `clock` at the end.

    The times have a time zone. `engine` is what carried the kernels of the run: "local" or "spark". Raises UserError where an
    input of a day is missing; nothing of the day is written then.
    """
    for day in days:
        inputs = customer_segments.read_inputs(lake, settings, day)  # before any write, so that nothing is published in part
        writes = {customer_segments.TABLE.name: partial(customer_segments.publish, lake, settings, day, inputs)} if inputs else {}
        writes |= {table.TABLE.name: partial(table.run, lake, settings, day) for table in OTHER_TABLES}
        results = run_in_parallel(writes)
        write_omissions(lake, day, {effects.TABLE.name: results[effects.TABLE.name]})
        refreshes.run(lake, settings, day, run_id, started_at, clock(), engine)
