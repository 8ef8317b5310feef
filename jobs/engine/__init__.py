"""The only place that knows how Spark is started and what happens in its workers."""
