"""The day that a DAG run refreshes."""

from datetime import timedelta


def day(params, dag_run) -> str:
    """Return the day of a run as YYYY-MM-DD: the parameter `day`, else the day on which the run's data interval starts.

    A run triggered by hand may have no data interval. It then takes the last interval that ended at or before the run,
    as the schedule would: two hours (the schedule's 02:00) and one day earlier.
    """
    if params["day"]:
        return params["day"]
    start = dag_run.data_interval_start or dag_run.run_after - timedelta(days=1, hours=2)
    return f"{start:%Y-%m-%d}"
