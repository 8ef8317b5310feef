"""A small job that uses Spark as a day does: set-up runs it once and archives the classes it loaded.

Called as `spark-submit setup/rehearsal.py FOLDER`; the caller removes the folder. A class that is missing here is no
error later: it is only loaded the slow way.
"""

import sys
from pathlib import Path

from pyspark.ml.clustering import KMeans
from pyspark.ml.functions import array_to_vector
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.window import Window


def main(folder: Path) -> None:
    spark = SparkSession.builder.appName("rehearsal").getOrCreate()
    write_table(spark, folder)
    join_and_cluster(spark, folder)
    spark.stop()


def write_table(spark: SparkSession, folder: Path) -> None:
    """Read a CSV file, and create, replace and merge a Delta table."""
    source, table = folder / "rows.csv", f"{folder}/table"
    source.write_text("id,day,price\n" + "".join(f"{i},2024-01-0{1 + i % 3},{i}.5\n" for i in range(300)))
    raw = spark.read.option("header", True).option("mode", "PERMISSIVE").csv(str(source))
    rows = raw.select(
        F.col("id"),
        F.to_date("day").alias("day"),
        F.col("price").cast("decimal(18,4)").alias("price"),
        F.to_timestamp("day").alias("at"),
        F.sha2("id", 256).alias("hash"),
    )
    spark.sql(
        f"CREATE TABLE delta.`{table}` (id STRING NOT NULL COMMENT 'key', day DATE, price DECIMAL(18,4), at TIMESTAMP, "
        "hash STRING) USING delta PARTITIONED BY (day)"
    )
    spark.sql(f"ALTER TABLE delta.`{table}` ADD CONSTRAINT price_is_positive CHECK (price >= 0)")
    rows.write.format("delta").mode("append").save(table)
    one_day = rows.where("day = DATE'2024-01-02'")
    one_day.write.format("delta").mode("overwrite").option("replaceWhere", "day = DATE'2024-01-02'").save(table)
    one_day.createOrReplaceTempView("changes")
    spark.sql(
        f"MERGE INTO delta.`{table}` t USING changes s ON t.id = s.id AND t.day = s.day "
        "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
    )


def join_and_cluster(spark: SparkSession, folder: Path) -> None:
    """Aggregate, join, pass rows through Python and fit K-Means."""
    stored = spark.read.format("delta").load(f"{folder}/table")
    latest = F.row_number().over(Window.partitionBy("day").orderBy(F.desc("at"), "id"))
    daily = (
        stored.withColumn("n", latest)
        .groupBy("day")
        .agg(F.sum("price").alias("price"), F.countDistinct("id").alias("ids"), F.max("n").alias("n"))
    )
    joined = stored.join(daily.withColumnRenamed("price", "total"), on="day", how="left")
    vectors = joined.select("id", F.array(F.col("price").cast("float"), F.col("total").cast("float")).alias("vector"))
    encoded = vectors.mapInArrow(lambda batches: batches, "id string, vector array<float>")
    encoded.write.format("delta").mode("overwrite").save(f"{folder}/encoded")
    points = spark.read.format("delta").load(f"{folder}/encoded").select("id", array_to_vector("vector").alias("features"))
    KMeans(k=2, seed=1, maxIter=2, solver="block").fit(points).transform(points).groupBy("prediction").count().collect()
    daily.toPandas()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
