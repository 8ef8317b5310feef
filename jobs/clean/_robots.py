"""Robots among visitors, by their user agent and by what they do on a day. They are flagged, never dropped.

The rows of a visitor stand together in the order of time, so that a rule is a difference with the row before or a sum over
the visitor's day.
"""

import re

import polars as pl
from crawleruseragents import CRAWLER_USER_AGENTS_DATA

from jobs.config.settings import Clean

# Attributes that are equal for all events of a fleet, besides the time.
_FINGERPRINT = ["user_agent", "event_type", "product_id", "page", "search_term", "device", "country", "channel"]
_AGENT = ["day", "user_agent", "country"]
_COUNTS = {
    "day": pl.Date, "stretch": pl.Int64, **dict.fromkeys(_FINGERPRINT, pl.String), "n_visitors": pl.UInt32,
}  # fmt: skip
NO_COUNTS = pl.DataFrame(schema=_COUNTS)  # where every visitor is a customer


def find_crawlers(agents: pl.Series) -> pl.Series:
    """Return those of distinct user agents that the crawler-user-agents list has, whatever their case."""
    pattern = re.compile("|".join(entry["pattern"] for entry in CRAWLER_USER_AGENTS_DATA), re.IGNORECASE)
    return pl.Series("user_agent", [agent for agent in agents if agent is not None and pattern.search(agent)], dtype=pl.String)


def count_fingerprints(events: pl.DataFrame, settings: Clean) -> pl.DataFrame:
    """Return the visitors of each day by user agent and country (`stretch` null), and the one-hit visitors by fingerprint too.

    A one-hit visitor has one event on the day and is not signed in. Its fingerprint is what the event is, and the stretch of
    `bot_fleet_minutes` in which it happened.
    """
    visitors = events.group_by("visitor_id", "day").agg(
        pl.col("user_agent", "country").min(),
        n=pl.len(),
        is_anonymous=pl.col("is_anonymous").all(),
        at=pl.col("position").first(),
    )
    agents = visitors.group_by(_AGENT).agg(n_visitors=pl.len())
    one_hit = visitors.filter((pl.col("n") == 1) & pl.col("is_anonymous"))["at"]
    fingerprints = _add_stretch(events[one_hit], settings).group_by("day", "stretch", *_FINGERPRINT).agg(n_visitors=pl.len())
    return pl.concat([NO_COUNTS, fingerprints, agents], how="diagonal")


def find_fleets(counts: pl.DataFrame, settings: Clean) -> pl.DataFrame:
    """Return the fingerprints of fleets out of the counts of all visitors.

    A fleet is many visitors with the same fingerprint. Visitors with the user agent of a fleet hardly do anything else; people
    who open one page with a common browser do.
    """
    is_fingerprint = pl.col("stretch").is_not_null()
    sums = counts.group_by(pl.exclude("n_visitors")).agg(pl.col("n_visitors").sum())
    many = sums.filter(is_fingerprint & (pl.col("n_visitors") >= settings.bot_fleet_ids))
    agents = sums.filter(~is_fingerprint).select(*_AGENT, n_agent="n_visitors")
    in_fleets = many.group_by(_AGENT).agg(n_in_fleets=pl.col("n_visitors").sum())
    shares = in_fleets.join(agents, _AGENT, "inner", nulls_equal=True)
    fleets = shares.filter(pl.col("n_in_fleets") / pl.col("n_agent") >= settings.bot_fleet_share)
    return many.join(fleets, _AGENT, "semi", nulls_equal=True).drop("n_visitors")


def flag_robots(events: pl.DataFrame, crawlers: pl.Series, fleets: pl.DataFrame, settings: Clean) -> pl.DataFrame:
    """Add bot_rule, decided per visitor and day, to events in the order of visitor and time; null for people."""
    pause = pl.when(pl.col("visitor_day") == pl.col("visitor_day").shift(1)).then(
        pl.col("event_at").diff().dt.total_microseconds()
    )
    paused = events.with_columns(pause=pause, is_crawler=pl.col("user_agent").is_in(crawlers.implode())).with_columns(
        within=pl.when(pl.col("pause").is_between(1, settings.session_gap_minutes * 60_000_000)).then("pause")
    )
    days = paused.group_by("visitor_day", maintain_order=True).agg(
        n_events=pl.len(),
        n_pauses=(pl.col("pause") > 0).sum(),
        n_short=pl.col("pause").is_between(1, settings.bot_pause_seconds * 1e6).sum(),
        n_within=pl.col("within").count(),
        mean=pl.col("within").mean(),
        deviation=pl.col("within").std(ddof=0),
        is_crawler=pl.col("is_crawler").any(),
    )
    is_even = (pl.col("deviation") <= settings.bot_even_spread * pl.col("mean")) & (
        pl.col("n_within") >= settings.bot_even_pauses
    )
    is_hasty = (pl.col("n_pauses") >= settings.bot_pause_events) & (pl.col("n_short") * 2 >= pl.col("n_pauses"))
    rules = days.select(
        "n_events",
        rule=pl.when("is_crawler").then(pl.lit("user_agent"))
        .when(pl.col("n_pauses") >= settings.bot_events_per_day).then(pl.lit("rate"))
        .when(is_hasty).then(pl.lit("no_human_pause"))
        .when(is_even).then(pl.lit("even_pauses")),
    )[events["visitor_day"]]  # fmt: skip
    flagged = events.with_columns(bot_rule=rules["rule"])
    return _flag_fleets(flagged, rules["n_events"] == 1, fleets, settings)


def flag_round_the_clock_activity(events: pl.DataFrame, settings: Clean) -> pl.DataFrame:
    """Set bot_rule and is_bot by the rule that looks beyond the day; an earlier rule is kept. Needs active_since."""
    name = "around_the_clock"
    days = events.group_by("visitor_day", maintain_order=True).agg(
        hours=pl.lit(2, pl.UInt32).pow(pl.col("event_at").dt.hour()).cast(pl.UInt32).bitwise_or(),
        unbroken=(pl.col("event_at") - pl.col("active_since")).max(),
    )
    is_active_long = (pl.col("hours").bitwise_count_ones() >= settings.bot_active_hours) | (
        pl.col("unbroken") >= pl.duration(hours=settings.bot_active_hours)
    )
    active_long = days.select(is_active_long.alias("active_long"))[events["visitor_day"]]["active_long"]
    earlier = pl.when(pl.col("bot_rule") != name).then("bot_rule")
    rule = pl.coalesce(earlier, pl.when(active_long).then(pl.lit(name)))
    return events.with_columns(bot_rule=rule).with_columns(is_bot=pl.col("bot_rule").is_not_null())


def _flag_fleets(events: pl.DataFrame, is_alone: pl.Series, fleets: pl.DataFrame, settings: Clean) -> pl.DataFrame:
    """Set bot_rule of the only event of a visitor's day where its fingerprint is one of a fleet."""
    if fleets.is_empty():
        return events
    is_candidate = is_alone & events["is_anonymous"] & events["bot_rule"].is_null()
    candidates = _add_stretch(events.with_row_index("row").filter(is_candidate), settings)
    rows = candidates.join(fleets, ["day", "stretch", *_FINGERPRINT], "semi", nulls_equal=True)["row"]
    rule = events["bot_rule"].scatter(rows, "one_hit_fleet")
    return events.with_columns(bot_rule=rule)


def _add_stretch(events: pl.DataFrame, settings: Clean) -> pl.DataFrame:
    return events.with_columns(stretch=pl.col("event_at").dt.epoch("us") // (settings.bot_fleet_minutes * 60_000_000))
