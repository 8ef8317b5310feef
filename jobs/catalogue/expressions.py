"""Expressions of features: SQL over windowed aggregates, which are values of the declaration and not text."""

from dataclasses import dataclass, field

from jobs.catalogue.aggregates import WindowedAggregate, sum


@dataclass(frozen=True)
class Expression:
    """SQL whose `template` has a {placeholder} for each of `aggregates`, by name."""

    template: str
    aggregates: dict[str, WindowedAggregate] = field(default_factory=dict)

    def to_sql(self, as_double: bool = False) -> str:
        """Return the SQL over the aggregates' columns; `as_double` casts them, so that decimals are divided as doubles.

        >>> ratio(sum("discount", days=90), sum("gross", days=90)).to_sql()
        'discount__90 / nullif(gross__90, 0)'
        """
        columns = {name: aggregate.column for name, aggregate in self.aggregates.items()}
        return self.template.format(**{name: f"{column}::DOUBLE" if as_double else column for name, column in columns.items()})


def sql(template: str, **aggregates: WindowedAggregate) -> Expression:
    """Return an expression in SQL; columns of customers without a window, such as last_seen_day, need no placeholder."""
    return Expression(template, aggregates)


def value(aggregate: WindowedAggregate) -> Expression:
    """Return the windowed aggregate itself."""
    return sql("{value}", value=aggregate)


def ratio(part: WindowedAggregate, whole: WindowedAggregate) -> Expression:
    """Return `part` by `whole`; null where `whole` is 0."""
    return sql("{part} / nullif({whole}, 0)", part=part, whole=whole)


def trend(name: str, *, days: int) -> Expression:
    """Return the sum over the last `days` days against the same days before: -1 (all before) to 1 (all now)."""
    now, before = sum(name, days=days), sum(name, days=days, before=days)
    return sql("({now} - {before}) / nullif(abs({now}) + abs({before}), 0)", now=now, before=before)
