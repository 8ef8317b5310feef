"""When an alert is sent, and its text."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from dags import alerts
from tests.dags.webhook import Webhook


def test_an_alert_is_one_line_in_the_log_and_one_post(caplog, monkeypatch):
    context = {
        "ti": SimpleNamespace(task_id="land", try_number=1, log_url="http://shoal/log"),
        "params": {"day": "2026-11-20"},
        "dag_run": None,
        "exception": AirflowFailException("error: orders.csv, line 7: 3 columns, not 8"),
    }
    line = "shoal: land of 2026-11-20 failed (try 1): error: orders.csv, line 7: 3 columns, not 8 -- http://shoal/log"
    with Webhook() as webhook:
        monkeypatch.setenv("AIRFLOW__SHOAL__ALERT_URL", webhook.url)
        alerts.alert_failed_task(context)
    assert webhook.lines == [line]

    alerts.alert_failed_task(context)  # the webhook is closed now
    assert [r.getMessage() for r in caplog.records if "shoal: land" in r.getMessage()] == [line, line]
    assert "the alert could not be posted" in caplog.text


@pytest.mark.parametrize(
    ("run_type", "state", "reasons"),
    [
        ("scheduled", "success", []),  # the checks after it may still run
        ("scheduled", "running", ["publish: running"]),
        ("scheduled", None, ["publish: not begun"]),
        ("backfill", None, []),
        ("manual", None, []),
    ],
)
def test_an_unpublished_day_is_an_alert_for_scheduled_runs_only(caplog, monkeypatch, run_type, state, reasons):
    monkeypatch.delenv("AIRFLOW__SHOAL__ALERT_URL", raising=False)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://shoal")
    states = {"r": {"publish": state}} if state else {}
    monkeypatch.setattr(alerts.RuntimeTaskInstance, "get_task_states", lambda **query: states)
    run = {"dag_id": "d", "dag_run_id": "r", "run_type": run_type, "data_interval_start": "2026-11-20T02:00:00Z"}
    asyncio.run(alerts.alert_unpublished_day({"dag_run": run}, deadline="06:00"))
    assert [r.getMessage() for r in caplog.records] == [
        f"shoal: 2026-11-20 is not published by 06:00 UTC ({reason}) -- http://shoal/dags/d/runs/r" for reason in reasons
    ]


def test_an_unpublished_day_is_that_of_the_shop(caplog, monkeypatch):
    monkeypatch.delenv("AIRFLOW__SHOAL__ALERT_URL", raising=False)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://shoal")
    monkeypatch.setenv("SHOAL_BUSINESS_TIME_ZONE", "Asia/Tokyo")
    monkeypatch.setattr(alerts.RuntimeTaskInstance, "get_task_states", lambda **query: {})
    run = {"dag_id": "d", "dag_run_id": "r", "run_type": "scheduled", "data_interval_start": "2026-11-19T17:00:00Z"}
    asyncio.run(alerts.alert_unpublished_day({"dag_run": run}, deadline="06:00"))
    assert "shoal: 2026-11-20 is not published by 06:00 Asia/Tokyo (publish: not begun)" in caplog.text


@pytest.mark.parametrize(("text", "interval"), [("06:00", timedelta(hours=28)), ("23:59", timedelta(hours=45, minutes=59))])
def test_the_deadline_of_a_day_is_that_time_of_the_next_day(monkeypatch, text, interval):
    monkeypatch.setenv("AIRFLOW__SHOAL__PUBLISHED_BY", text)
    assert alerts.publication_deadline().interval == interval
    monkeypatch.setenv("AIRFLOW__SHOAL__PUBLISHED_BY", "")
    assert alerts.publication_deadline() is None
