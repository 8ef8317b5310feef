"""Names of columns and figures that suites, profiles and the project's own expectations share."""

KEY_COUNT = "_key_count"  # the column that says how many rows have the row's key
VOLUME, DAYS_BEHIND = "volume", "days_behind"
PSI, OUT_OF_RANGE = "psi", "out_of_range"
