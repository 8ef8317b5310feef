"""Alerts: one line in the log, and a POST to a webhook where [shoal] alert_url (AIRFLOW__SHOAL__ALERT_URL) names one."""

import json
import logging
import urllib.request
from datetime import datetime, timedelta

from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference, conf
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from asgiref.sync import sync_to_async

from dags.day import day
from dags.processes import business_time_zone

log = logging.getLogger("airflow.task")


def alert_failed_task(context) -> None:
    """Send an alert that a task has failed."""
    ti = context["ti"]
    # Without an exception the scheduler failed the task: it was queued for too long, or its worker sends no heartbeat.
    reason = context.get("exception") or f"no worker of queue {ti.task.queue} took it in time, or its worker is gone"
    run_day = day(context["params"], context["dag_run"])
    _send(f"shoal: {ti.task_id} of {run_day} failed (try {ti.try_number}): {reason} -- {ti.log_url}")


def publication_deadline() -> DeadlineAlert | None:
    """Return the deadline of scheduled runs: AIRFLOW__SHOAL__PUBLISHED_BY (HH:MM) of the next day, or None if empty.

    It is a time by the shop's clock, and an hour later or earlier on the day when summer time begins or ends.

    Raises ValueError where the setting is not a time.
    """
    if not (text := conf.get("shoal", "published_by", fallback="06:00")):
        return None
    time = datetime.strptime(text, "%H:%M")  # noqa: DTZ007
    # A scheduled run's logical date is 02:00 of the day that it refreshes: 22 hours before the next day starts.
    interval = timedelta(hours=22 + time.hour, minutes=time.minute)
    return DeadlineAlert(
        DeadlineReference.DAGRUN_LOGICAL_DATE, interval, AsyncCallback(alert_unpublished_day, {"deadline": text})
    )


async def alert_unpublished_day(context, deadline: str) -> None:
    """Send an alert if a scheduled run has not published its day; the triggerer calls this when a run misses its deadline."""
    run = context["dag_run"]
    if run["run_type"] != "scheduled":  # a manual run or a backfill may refresh any day
        return
    query = {"dag_id": run["dag_id"], "run_ids": [run["dag_run_id"]], "task_ids": ["publish"]}
    states = await sync_to_async(RuntimeTaskInstance.get_task_states)(**query)
    state = states.get(run["dag_run_id"], {}).get("publish")
    if state != "success":
        page = f"{conf.get('api', 'base_url', fallback='')}/dags/{run['dag_id']}/runs/{run['dag_run_id']}"
        zone = business_time_zone()
        run_day = datetime.fromisoformat(str(run["data_interval_start"])).astimezone(zone).date()
        line = f"shoal: {run_day} is not published by {deadline} {zone.key} (publish: {state or 'not begun'}) -- {page}"
        await sync_to_async(_send)(line)


def _send(line: str) -> None:
    """Log a line, and post it as {"text": line} to AIRFLOW__SHOAL__ALERT_URL if that is set."""
    log.error(line)
    if url := conf.get("shoal", "alert_url", fallback=""):
        request = urllib.request.Request(url, json.dumps({"text": line}).encode(), {"Content-Type": "application/json"})  # noqa: S310
        try:
            urllib.request.urlopen(request, timeout=10).close()  # noqa: S310
        except (OSError, ValueError) as error:  # a webhook that does not answer must not hide the failed task
            log.error("shoal: the alert could not be posted to [shoal] alert_url: %s", error)
