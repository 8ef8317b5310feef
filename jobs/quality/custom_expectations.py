"""The project's own expectations: subclasses that Great Expectations serves by name once this module is imported."""

from great_expectations.expectations import ExpectColumnValuesToBeBetween

from jobs.quality._names import DAYS_BEHIND, KEY_COUNT, VOLUME


class ExpectKeyToBeUnique(ExpectColumnValuesToBeBetween):
    """Expect that no two rows have the same values in `columns`."""

    columns: list[str]
    column: str = KEY_COUNT
    max_value: float | None = 1


class ExpectRowCountToBeLikeSameWeekdays(ExpectColumnValuesToBeBetween):
    """Expect the rows of the day, by the median of the same weekdays before it, to lie from `min_value` to `max_value`."""

    column: str = VOLUME


class ExpectRowsToBeFresh(ExpectColumnValuesToBeBetween):
    """Expect the newest rows to be of the refreshed day."""

    column: str = DAYS_BEHIND
    max_value: float | None = 0
