"""Numbers as people read them: the one place for it."""

from decimal import Decimal

NONE = "–"  # shown for a missing value


def format_count(value: float | Decimal | None) -> str:
    """Return a whole number with thousands separators.

    >>> format_count(1234567), format_count(None)
    ('1,234,567', '–')
    """
    return NONE if value is None else f"{value:,.0f}"


def format_money(value: Decimal | float | None) -> str:
    """Return an amount with two decimals.

    >>> format_money(Decimal("-1234.5000"))
    '-1,234.50'
    """
    return NONE if value is None else f"{value:,.2f}"


def format_amount(value: Decimal | float) -> str:
    """Return an amount with two decimals, or none where it is whole.

    >>> format_amount(Decimal("57404.9100")), format_amount(Decimal("91.0000")), format_amount(20)
    ('57,404.91', '91', '20')
    """
    return f"{value:,.2f}".removesuffix(".00")


def format_percent(share: float | None) -> str:
    """Return a share with one decimal, so that the numbers of a column line up.

    >>> format_percent(0.1234), format_percent(0.0004), format_percent(-0.0001), format_percent(None)
    ('12.3 %', '<0.1 %', '0.0 %', '–')
    """
    if share is None:
        return NONE
    return "<0.1 %" if 0 < share < 0.001 else f"{share * 100:z.1f} %"


def format_day_count(value: float | None) -> str:
    """Return a number of days with its unit.

    >>> format_day_count(1.0), format_day_count(12.5), format_day_count(None)
    ('1 day', '12.5 days', '–')
    """
    return NONE if value is None else f"{value:,.4g} day{'' if value == 1 else 's'}"


def format_number(value: float | None) -> str:
    """Return a number with three significant digits, or all digits before the decimal point.

    >>> [format_number(v) for v in (0.04213, 12345.6, 3.0, -3.0, 0.000663, None)]
    ['0.0421', '12,346', '3', '-3', '<0.001', '–']
    """
    if value is None:
        return NONE
    if 0 < value < 0.001:
        return "<0.001"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def format_decimals(value: float | None, digits: int) -> str:
    """Return a number with a fixed count of decimals.

    >>> format_decimals(0.4, 3), format_decimals(None, 3)
    ('0.400', '–')
    """
    return NONE if value is None else f"{value:.{digits}f}"


def format_effect(value: float) -> str:
    """Return a difference in standard deviations with its sign.

    >>> format_effect(1.843), format_effect(-0.5)
    ('+1.84', '-0.50')
    """
    return f"{value:+.2f}"


def format_gain(value: float, is_share: bool) -> str:
    """Return a difference with its sign: of shares in percentage points, else with three decimals.

    >>> format_gain(0.0213, True), format_gain(-0.0213, False), format_gain(-0.0001, True)
    ('+2.1', '-0.021', '+0.0')
    """
    return f"{value * 100:+z.1f}" if is_share else f"{value:+z.3f}"


def format_css_length(share: float) -> str:
    """Return a share of a length as CSS writes it.

    >>> format_css_length(0.125)
    '12.50%'
    """
    return f"{share * 100:.2f}%"


def format_feature_value(value: float, unit: str, currency: str | None = None) -> str:
    """Return a feature's value in the unit that the catalogue states; shares have two significant digits.

    >>> [format_feature_value(v, "share", "GBP") for v in (0.2384, 0.00059, 0.00002, 0.0)]
    ['24 %', '0.059 %', '<0.01 %', '0 %']
    >>> format_feature_value(12.5, "home currency", "GBP"), format_feature_value(1.25, "count", "GBP")
    ('12.50 GBP', '1.25')
    >>> format_feature_value(1.0, "days", "GBP"), format_feature_value(58.53, "days", "GBP")
    ('1 day', '58.5 days')

    Without a currency only the number is returned, for a sentence that names the unit itself.

    >>> format_feature_value(12.5, "home currency"), format_feature_value(58.53, "days"), format_feature_value(0.31, "share")
    ('12.5', '58.5', '31 %')
    """
    if unit == "share":
        if 0 < value < 0.0001:
            return "<0.01 %"
        return f"{value * 100:.0f} %" if abs(value) >= 0.1 or value == 0 else f"{value * 100:.2g} %"
    if currency is None or unit in ("", "count", "-1 to 1"):
        return format_number(value)
    if unit == "home currency":
        return f"{format_money(value)} {currency}"
    return f"{format_number(value)} {unit.removesuffix('s') if value == 1 else unit}"
