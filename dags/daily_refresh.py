"""# The daily refresh: from source files to customer segments

Every night at 02:00 this DAG refreshes the day that has just ended: tables, segments and a report. Days and hours are those of
the setting `business_time_zone`, by default UTC. Each box is one process of one command, `shoal <step> --day D`. Any of them may
be cleared, retried or run again for any day, in any order, and writes the same rows.

**Normal.** One run a day, green to the end; `train` is pink (skipped) on most days, because the model is not due. On a day
without any data, `clean` and all tasks after it are pink. BI reads `marts.*` and sees the new day only when `publish` has
ended.

**Act when** a box is red, or when `marts.refreshes` has no row for yesterday. There is an alert if `publish` has not ended by
06:00 (`AIRFLOW__SHOAL__PUBLISHED_BY`). In the log of a red box, the last line that starts with `error:` says what is
wrong, where, and what to do. BI reads yesterday's segments until `publish` has ended.

- **Red at once**, without a retry: a person is needed. The cause is a bad file, a wrong setting or a failed expectation.
  Correct it, then clear the red task *with its downstream*; the run goes on from there.
- **Red after three tries**: the machine or the cluster. Check memory, disk and network, then clear the task. Or another
  command, which the line names, was writing the lake for a quarter of an hour: wait until it ends, then clear the task.
- **Stop a run**: mark it failed. Its processes end within seconds.
- **Run one day by hand**: press Trigger and choose the day.
- **Run many days**, oldest first. The end is excluded, so this is the 1st to the 7th:

      airflow backfill create --dag-id daily_refresh --max-active-runs 1 \\
          --from-date 2026-11-01 --to-date 2026-11-08

  A backfilled run refreshes the day on which its data interval starts, as a scheduled run does. To repeat days that have a
  run already, add `--reprocess-behavior completed`. Airflow does not count a backfill as the one active run: start no
  other run until the backfill has ended.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import Asset, CronDataIntervalTimetable, Param, dag

from dags.alerts import alert_failed_task, publication_deadline
from dags.day import day
from dags.operators import gpu_task, lake_task, plain_task
from dags.processes import business_time_zone

PUBLISHED = [
    Asset("segments.assignments"),
    Asset("segments.history"),
    Asset("marts.customer_segments"),
    Asset("marts.segment_profiles"),
    Asset("marts.segment_changes"),
    Asset("marts.segment_moves"),
    Asset("marts.segment_demand"),
    Asset("marts.effects"),
    Asset("marts.campaign_uplift"),
    Asset("marts.refreshes"),
]


DEFAULT_ARGS = {
    "owner": "shoal",
    "retries": 2,  # after crashes; an error that a person must correct fails at once
    "retry_delay": timedelta(minutes=5),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=30),
    "on_failure_callback": alert_failed_task,
}

PARAMS = {
    "day": Param(
        None,
        type=["null", "string"],
        format="date",
        title="Day",
        description="The day to refresh. Empty: the day before the logical date, one earlier if its time is before 02:00.",
    ),
    "retrain": Param(
        False,
        type="boolean",
        title="Retrain",
        description="Train a new autoencoder even though the current model is not due.",
    ),
}


@dag(
    schedule=CronDataIntervalTimetable("0 2 * * *", timezone=business_time_zone().key),
    start_date=datetime(2000, 1, 1, tzinfo=UTC),  # before any day to refresh: a run before it would have no tasks
    catchup=False,
    max_active_runs=1,
    deadline=publication_deadline(),
    description="One day from source files to customer segments, marts and a report",
    doc_md=__doc__,
    tags=["shoal", "daily"],
    user_defined_macros={"day": day},
    default_args=DEFAULT_ARGS,
    params=PARAMS,
)
def daily_refresh():
    land = lake_task("land", execution_timeout=timedelta(hours=2))
    clean = lake_task("clean", execution_timeout=timedelta(hours=3))
    check_clean = lake_task("check clean", execution_timeout=timedelta(minutes=45))
    features = lake_task("features", execution_timeout=timedelta(hours=3))
    check_features = lake_task("check features", execution_timeout=timedelta(minutes=45))
    train = gpu_task(
        "train",
        "{{ '--retrain' if params.retrain else '' }}",
        execution_timeout=timedelta(hours=6),
        retry_delay=timedelta(seconds=10),  # a retry resumes from the checkpoint, on any worker that listens
        retry_exponential_backoff=False,
    )
    encode = lake_task(
        "encode",
        trigger_rule="none_failed_min_one_success",  # a skipped `train` is a normal day; after a skipped `clean` all is skipped
        execution_timeout=timedelta(hours=1),
    )
    segment = lake_task("segment", execution_timeout=timedelta(hours=2))
    score = lake_task("score", execution_timeout=timedelta(hours=1))
    publish = lake_task(
        "publish",
        *("--run-id", "{{ run_id }}", "--started-at", "{{ dag_run.start_date | ts }}"),
        outlets=PUBLISHED,
        execution_timeout=timedelta(hours=1),
    )
    check_marts = lake_task("check marts", execution_timeout=timedelta(minutes=45))
    report = plain_task("report", execution_timeout=timedelta(minutes=30))
    notify = plain_task("notify", execution_timeout=timedelta(hours=2))

    land >> clean >> check_clean >> features >> check_features >> train >> encode >> segment >> score >> publish >> check_marts
    check_marts >> report >> notify
    check_features >> encode


refresh = daily_refresh()
