"""Spark's configuration: defaults, environment, logging, and which Python and Spark its scripts take."""

from setup.java import Java
from setup.places import Places, put_file


def write_configuration(target: Places, java: Java) -> None:
    """Write Spark's defaults, environment and log settings, and let scripts and workers find this Spark and Python."""
    python = target.environment / "bin" / "python"
    conf = target.spark / "conf"
    conf.mkdir(exist_ok=True)
    put_file(conf / "spark-defaults.conf", DEFAULTS)
    put_file(conf / "spark-env.sh", SPARK_ENV.format(java=java.home, python=python))
    put_file(conf / "log4j2.properties", LOGGING)
    # pip's copy of this script asks the `python3` of the PATH where Spark is, and dies where that is another Python.
    put_file(target.environment / "bin" / "find-spark-home", f'export SPARK_HOME="${{SPARK_HOME:-{target.spark}}}"\n', mode=0o755)
    # A session in process starts its workers with PYSPARK_PYTHON, else with whatever `python3` is on the PATH.
    pth = "import os, sys; os.environ.setdefault('PYSPARK_PYTHON', sys.executable)\n"
    put_file(target.spark.parent / "shoal_workers.pth", pth)


SPARK_ENV = """\
# Written by set-up (setup/); every start of Spark from this folder reads it.
if [ -x "{java}/bin/java" ]; then JAVA_HOME="{java}"; fi
PYSPARK_PYTHON="${{PYSPARK_PYTHON:-{python}}}"
# The launcher is a second JVM that lives for a moment: the quick compiler alone is enough for it.
SPARK_LAUNCHER_OPTS="${{SPARK_LAUNCHER_OPTS:--XX:TieredStopAtLevel=1}}"
"""

DEFAULTS = """\
# Written by set-up (setup/).
spark.driver.memory 4g
spark.sql.extensions io.delta.sql.DeltaSparkSessionExtension
spark.sql.catalog.spark_catalog org.apache.spark.sql.delta.catalog.DeltaCatalog
# Delta's and Spark's own are for clusters: 50 tasks for a snapshot, 10,000 to list files, 200 for a shuffle.
spark.databricks.delta.snapshotPartitions 2
spark.sql.sources.parallelPartitionDiscovery.parallelism 4
spark.sql.shuffle.partitions 4
# A task has one core; the libraries of the kernels would otherwise start a thread for each core of the machine.
spark.executorEnv.POLARS_MAX_THREADS 1
spark.sql.session.timeZone UTC
spark.sql.execution.arrow.pyspark.enabled true
spark.sql.parquet.compression.codec zstd
spark.hadoop.fs.file.impl com.globalmentor.apache.hadoop.fs.BareLocalFileSystem
spark.ui.enabled false
spark.ui.showConsoleProgress false
"""

LOGGING = """\
# Written by set-up (setup/): warnings, less the ones that every start on one machine prints.
status = warn
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
# Spark's errors quote values: of "[CAST_INVALID_INPUT] The value 'Anna' ..." only the condition in brackets is logged.
# Without alwaysWriteExceptions = false the layout would add each exception once more, as it is.
appender.console.layout.pattern = \
%d{HH:mm:ss} %p %c{1}: %replace{%m%n%ex}{(\\\\[[A-Z][A-Z0-9_.]+\\\\])[^\\\\n]*(?:\\\\n - [^\\\\n]*)*}{$1}
appender.console.layout.alwaysWriteExceptions = false
# "Unable to load native-hadoop library"
logger.native.name = org.apache.hadoop.util.NativeCodeLoader
logger.native.level = error
# "Your hostname resolves to a loopback address"
logger.hostname.name = org.apache.spark.util.Utils
logger.hostname.level = error
# "Truncated the string representation of a plan"
logger.plans.name = org.apache.spark.util.SparkStringUtils
logger.plans.level = error
"""
