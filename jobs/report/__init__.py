"""The report: one page per day for people, made from the published tables without a JVM."""
