"""What each task does and what to do when it is red, as the task's page in Airflow shows it (Markdown)."""

TASK_DOCS = {
    "land": """Reads new and changed source files into `bronze.*`, as received, each file once.

**Red:** the line names the file and often the row: it is missing or truncated, or it has a column that the mapping does not
name. Get the file again or correct `conf/sources/<source>.toml` (`shoal source check` shows how it reads a file). Then clear
this task.""",
    "clean": """Sets types, removes duplicates, cuts sessions and nets money into `clean.*`; refused rows go to `clean.*_rejects`.

**Pink:** the day has no events and no orders, and no earlier day changed. The tasks after it are skipped too.

**Red:** usually the reconciliation: the rows in are not the rows out plus rejects plus duplicates
(`quality.reconciliation`). That is a defect of Shoal, not of the data: call the owner.""",
    "check_clean": """Runs Great Expectations on `clean.*`; the results are in `quality.results`.

**Red:** a critical expectation failed, and the day stops before any later table changes. Look at the rows that it names.
If the data are wrong, correct the source and clear from `land`. If the expectation is wrong, change
`expectations/clean/<table>.json` and clear this task.""",
    "features": """Writes `features.customer_days` for the days that changed, then `features.customers` as of the day.

**Red:** memory or disk in most cases. Make room, then clear this task.""",
    "check_features": """Runs Great Expectations on `features.*`.

**Red:** as `check_clean`. A feature out of range mostly means that the data have a case which no cleaning rule covers.""",
    "train": """Trains the autoencoder when the current model is due or `retrain` is set; **skipped on other days**.

**Red:** too few customers, or the GPU. The live model is kept. To use it today, mark this task as success and clear
`encode` with its downstream.

**Red with an empty log:** the task was queued for ten minutes and no worker of the queue `gpu` took it. Start a worker
(`make worker`), then clear this task *with its downstream*.""",
    "encode": """Writes one vector per customer with the current model, and runs Great Expectations on `encoded.*`.

**Red:** there is no model yet, or its features are not those of today. Trigger the day with `retrain`.""",
    "segment": """Clusters the customers (after a retrain), and writes the day's assignments and each customer's history.

**Red:** too few customers, or no clustering is good enough; the line says which. Yesterday's segments are kept.""",
    "score": """Fits the models of what customers are worth and what to offer them when they are due, and writes `scores.*`.

**Red:** a value is impossible; the line says which, and yesterday's rows are kept. Correct the cause and clear this task.""",
    "publish": """Writes `marts.*`. The row in `marts.refreshes` comes last: the day is published once it is there.

**Red:** clear this task. BI that reads the days of `marts.refreshes` never sees half a day.""",
    "check_marts": """Runs Great Expectations on `scores.*` and `marts.*`.

**Red:** the day **is** published and a value is wrong. Tell the BI team, look at `quality.results`, correct the cause and
clear from `segment`.""",
    "report": """Writes the page in `<reports>/<day>/`, which the tab Report of the run's page shows.

**Red:** the tables are complete and only the page is missing. Clear this task.""",
    "notify": """Sends the day's changes to the webhooks of `conf/activation.toml`.

**Pink:** no webhook is declared.

**Red:** a receiver did not accept everything; the line says which and why. Once it works, clear this task: it sends what is
left. For earlier days too: `shoal notify --dead-letters --day D`.""",
}
