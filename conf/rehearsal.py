"""What a day does to Spark, on toy rows: set-up runs it once and archives the classes it loaded.

Called as `spark-submit conf/rehearsal.py FOLDER`; the folder is the caller's to remove. A class that is missing here
is not an error later, it is only loaded the slow way.
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
    table, other = f"{folder}/table", f"{folder}/other"
    source = folder / "rows.csv"
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

    stored = spark.read.format("delta").load(table)
    latest = F.row_number().over(Window.partitionBy("day").orderBy(F.desc("at"), "id"))
    daily = (
        stored.withColumn("n", latest)
        .groupBy("day")
        .agg(F.sum("price").alias("price"), F.countDistinct("id").alias("ids"), F.max("n").alias("n"))
    )
    joined = stored.join(daily.withColumnRenamed("price", "total"), on="day", how="left")
    vectors = joined.select("id", F.array(F.col("price").cast("float"), F.col("total").cast("float")).alias("vector"))
    encoded = vectors.mapInArrow(lambda batches: batches, "id string, vector array<float>")
    encoded.write.format("delta").mode("overwrite").save(other)
    points = spark.read.format("delta").load(other).select("id", array_to_vector("vector").alias("features"))
    KMeans(k=2, seed=1, maxIter=2, solver="block").fit(points).transform(points).groupBy("prediction").count().collect()
    daily.toPandas()
    spark.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
