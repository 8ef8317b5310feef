"""What is made once on a machine: Java, JARs and Spark's configuration.

`python -m setup --uv UV`, run by the Spark environment's Python, makes the pyspark package of that environment a
complete Spark home. Afterwards any `spark-submit` of that environment, and any session that Python opens in process,
works without an environment variable. The package needs the standard library alone. Each part is made where it is
missing or its inputs have changed, and is put in place in one step: a run that was killed is simply run again.
"""
