"""The day that a DAG run refreshes."""

from datetime import timedelta

from dags.processes import business_time_zone


def day(params, dag_run) -> str:
    """Return the day of a run as YYYY-MM-DD: the parameter `day`, else the day on which the run's data interval starts.

    Days and hours are those of the setting business_time_zone.

    A run triggered by hand may have no data interval. It then takes the last interval that ended at or before the run,
    as the schedule would: two hours (the schedule's 02:00) and one day earlier.
    """
    if params["day"]:
        return params["day"]
    earlier = timedelta() if dag_run.data_interval_start else timedelta(days=1, hours=2)
    moment = dag_run.data_interval_start or dag_run.run_after
    start = moment.astimezone(business_time_zone()).replace(tzinfo=None) - earlier  # hours of the clock, also in summer time
    return f"{start:%Y-%m-%d}"
