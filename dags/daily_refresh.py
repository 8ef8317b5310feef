"""# The daily refresh: from source files to customer segments

Every night at 02:00 UTC this turns the day that has just ended into tables, segments and a report. Each box is one
process of one command, `shoal <step> --day D`; any of them may be cleared, retried or run again for any day, in any
order, and gives the same rows.

**Normal.** One run a day, green to the end; `train` pink (skipped) on most days, because the model is not due. BI reads
`marts.*` and sees the new day only when `publish` has ended.

**Worry when** a box is red, or when `marts.refreshes` has no row for yesterday: where `publish` has not ended by 06:00
UTC (`AIRFLOW__SHOAL__PUBLISHED_BY`) there is an alert. In a red box's log the last line that begins with `error:` says
what is wrong, where, and what to do. Until `publish`, what BI reads is untouched: yesterday's segments stand.

- **Red at once**, without a retry: a person is needed. A bad file, a wrong setting, a failed expectation. Mend it, then
  clear the red task *with its downstream*; the run goes on from there.
- **Red after three tries**: the machine or the cluster. Memory, disk, network. Look there, then clear the task. Or another
  command, which the line names, wrote the lake for a quarter of an hour: wait for it, then clear the task.
- **Stop a run**: mark it failed. Its processes end within seconds.
- **Run one day by hand**: Trigger, choose the day.
- **Run many days**, oldest first; the end is a moment, so this is the 1st to the 7th:

      airflow backfill create --dag-id daily_refresh --max-active-runs 1 \\
          --from-date 2026-11-01 --to-date 2026-11-08

  A backfilled run is about the day its data interval began, as a scheduled one is. To redo days that have a run
  already, add `--reprocess-behavior completed`. Airflow doesn't count a backfill as the one active run: start nothing
  else until it has ended.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import Asset, CronDataIntervalTimetable, Param, dag

from dags.steps import alert, day, gpu, plain, published_by, spark

PUBLISHED = [
    Asset("segments.assignments"),
    Asset("segments.history"),
    Asset("marts.customer_segments"),
    Asset("marts.segment_profiles"),
    Asset("marts.segment_changes"),
    Asset("marts.segment_moves"),
    Asset("marts.refreshes"),
]


@dag(
    schedule=CronDataIntervalTimetable("0 2 * * *", timezone="UTC"),
    start_date=datetime(2000, 1, 1, tzinfo=UTC),  # before any day someone may refresh: earlier runs would have no tasks
    catchup=False,
    max_active_runs=1,
    deadline=published_by(),
    description="One day from source files to customer segments, marts and a report",
    doc_md=__doc__,
    tags=["shoal", "daily"],
    user_defined_macros={"day": day},
    default_args={
        "owner": "shoal",
        "retries": 2,  # crashes only: an error that a person must mend fails at once
        "retry_delay": timedelta(minutes=5),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=30),
        "on_failure_callback": alert,
    },
    params={
        "day": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Day",
            description="The day to refresh. Empty: the day before the logical date (before 02:00 UTC one earlier).",
        ),
        "retrain": Param(
            False,
            type="boolean",
            title="Retrain",
            description="Train a new autoencoder even though the current one is not due yet.",
        ),
    },
)
def daily_refresh():
    land = spark(
        "land",
        execution_timeout=timedelta(hours=2),
        doc_md="""Takes new and changed source files into `bronze.*`, as received, each file once.

**Red:** the line names the file and often the row: missing, truncated, or a column the mapping does not know. Get the
file again or mend `conf/sources/<source>.toml` (`shoal source check` shows what it makes of a file), then clear.""",
    )
    clean = spark(
        "clean",
        execution_timeout=timedelta(hours=3),
        doc_md="""Types, deduplicates, cuts sessions, nets money into `clean.*`; refused rows are in `clean.*_rejects`.

**Red:** usually the reconciliation: rows in are not rows out plus rejects plus duplicates
(`quality.reconciliation`). That is a defect of ours, not of the data: call the owner.""",
    )
    check_clean = spark(
        "check clean",
        execution_timeout=timedelta(minutes=45),
        doc_md="""Great Expectations on `clean.*`; results in `quality.results`.

**Red:** a critical expectation failed and the day stops before anything later is touched. Look at the rows it names.
Wrong data: mend the source, clear from `land`. Right data, wrong expectation: change
`expectations/clean/<table>.json`, clear this task.""",
    )
    features = spark(
        "features",
        execution_timeout=timedelta(hours=3),
        doc_md="""`features.customer_days` for the days that changed, then `features.customers` as of the day.

**Red:** memory or disk in most cases; clear it when there is room.""",
    )
    check_features = spark(
        "check features",
        execution_timeout=timedelta(minutes=45),
        doc_md="""Great Expectations on `features.*`.

**Red:** as `check_clean`. A feature out of range is mostly a cleaning rule that met something new.""",
    )
    train = gpu(
        "train",
        "{{ '--retrain' if params.retrain else '' }}",
        execution_timeout=timedelta(hours=6),
        retry_delay=timedelta(seconds=10),  # a try goes on from the last one's checkpoint, on whichever worker listens
        retry_exponential_backoff=False,
        doc_md="""Trains the autoencoder when the current one is due or `retrain` is set; **skipped on other days**.

**Red:** too few customers, or the GPU. The last good model stays: to go on with it today, mark this task as success
and clear `encode` with its downstream.

**Red with an empty log:** it was queued for ten minutes and no worker of the queue `gpu` took it. Start one
(`make worker`), then clear this task *with its downstream*.""",
    )
    encode = spark(
        "encode",
        trigger_rule="none_failed",  # a skipped `train` is a normal day
        execution_timeout=timedelta(hours=1),
        doc_md="""One vector per customer from the current model; Great Expectations on `encoded.*`.

**Red:** there is no model yet, or its features are not today's: trigger the day with `retrain`.""",
    )
    segment = spark(
        "segment",
        execution_timeout=timedelta(hours=2),
        doc_md="""Clusters (after a retrain), the day's assignments and each customer's history.

**Red:** too few customers, or no clustering good enough; the line says which. Yesterday's segments stand.""",
    )
    publish = spark(
        "publish",
        "--run-id",
        "{{ run_id }}",
        "--started-at",
        "{{ dag_run.start_date | ts }}",
        outlets=PUBLISHED,
        execution_timeout=timedelta(hours=1),
        doc_md="""Writes `marts.*`, the row in `marts.refreshes` last: only then is the day published.

**Red:** clear it. BI that follows the manifest never sees half a day.""",
    )
    check_marts = spark(
        "check marts",
        execution_timeout=timedelta(minutes=45),
        doc_md="""Great Expectations on `marts.*`.

**Red:** the day **is** published and something is off: tell BI, see `quality.results`, mend, clear from `segment`.""",
    )
    report = plain(
        "report",
        execution_timeout=timedelta(minutes=30),
        doc_md="""The page in `<reports>/<day>/`, which the tab Report of a run's page shows.

**Red:** the tables are fine, only the page is missing; clear it.""",
    )

    (land >> clean >> check_clean >> features >> check_features >> train >> encode >> segment >> publish >> check_marts >> report)


refresh = daily_refresh()
