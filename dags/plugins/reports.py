"""The tab Report on a run's page: `<reports>/<day>/index.html` of the day that the run refreshed, for users who are logged in."""

import os
from datetime import date

from airflow.api_fastapi.core_api.security import get_user
from airflow.models.dagrun import DagRun
from airflow.plugins_manager import AirflowPlugin
from airflow.utils.session import create_session
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import FileResponse
from sqlalchemy import select

from dags.day import day
from dags.processes import project_home

app = FastAPI(title="Shoal's reports")


@app.get("/{dag_id}/{run_id:path}", dependencies=[Depends(get_user)])
def serve_report(dag_id: str, run_id: str) -> FileResponse:
    """Return the page of a run's day; 404 where there is no such run or the page is not written yet."""
    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
        if run is None:
            raise HTTPException(404, f"{dag_id} has no run {run_id}")
        run_day = date.fromisoformat(day({"day": (run.conf or {}).get("day")}, run))
    file = project_home() / os.environ.get("SHOAL_REPORTS", "var/reports") / str(run_day) / "index.html"
    if not file.is_file():
        raise HTTPException(404, f"the report of {run_day} is not written yet: the last task of the run writes it")
    return FileResponse(file)


class Reports(AirflowPlugin):
    name = "shoal_reports"
    fastapi_apps = [{"app": app, "url_prefix": "/reports", "name": "Reports"}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        {"name": "Report", "href": "/reports/{DAG_ID}/{RUN_ID}", "destination": "dag_run", "url_route": "report"}
    ]
