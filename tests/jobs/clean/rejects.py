"""What every table of rejects holds: rows as received."""

from jobs.clean import _rows


def landed(spark, bronze, *rows):
    """Return bronze rows, each given by its columns as text; they are rows 1, 2, ... of one file."""
    origin = {"_extra": {}, "_source": "shop", "_file": "file"}
    values = [tuple((origin | {"_row": n} | row).get(column) for column in bronze.columns) for n, row in enumerate(rows, 1)]
    return spark.createDataFrame(values, bronze.schema.replace(" NOT NULL", ""))


def read_as_received(raw, classified, table):
    """Return (row, outcome, rules) of each rejected row; assert that it has every column as received."""
    received = {row["_row"]: row for row in raw.collect()}
    rows = _rows.select_rejects(classified, raw, table).orderBy("_row").collect()
    for row in rows:
        assert {column: row[column] for column in raw.columns} == received[row["_row"]].asDict()
    return [(row["_row"], row["outcome"], row["rules"]) for row in rows]
