"""Robots among visitors, by their user agent and by what they do on a day. They are flagged, never dropped.

The rows of a visitor stand together in the order of time, so that a rule is a difference with the row before or a sum over
the visitor's day.
"""

import re
from collections.abc import Collection
from functools import cache

import polars as pl
from crawleruseragents import CRAWLER_USER_AGENTS_DATA

from jobs import business_day
from jobs.config.settings import Clean

# Attributes that are equal for all events of a fleet, besides the time.
_FINGERPRINT = ["user_agent", "event_type", "product_id", "page", "search_term", "device", "country", "channel"]
# What a ping of an open page repeats.
_CONTENT = ["event_type", "product_id", "page", "search_term"]
_NO_LETTER_BEFORE, _NO_LETTER_AFTER = "(?<![A-Za-z])", "(?![A-Za-z])"
_ESCAPED_OR_CAPITAL = re.compile(r"(\\.)|[A-Z]")
_PATTERNS = [entry["pattern"] for entry in CRAWLER_USER_AGENTS_DATA]
_BARE_WORDS = {pattern.lower() for pattern in _PATTERNS if pattern.isalpha()}
_WORD = re.compile("[a-z]+")
_AGENT = ["day", "user_agent", "country"]
_COUNTS = {
    "day": pl.Date, "stretch": pl.Int64, **dict.fromkeys(_FINGERPRINT, pl.String), "address": pl.String, "n_visitors": pl.UInt32,
}  # fmt: skip
NO_COUNTS = pl.DataFrame(schema=_COUNTS)  # where every visitor is a customer


def find_crawlers(agents: pl.Series, app_agents: Collection[str] = ()) -> pl.Series:
    """Return those of distinct user agents that the crawler-user-agents list has.

    Its bare words count as whole words in any case, its other patterns in their case, or in an agent that a source stores in
    lower case. An agent that holds one of the texts `app_agents` is none. About 5 µs of CPU an agent, and up to 10 ms one that a
    pattern finds in any case.
    """
    candidates = agents.drop_nulls()
    candidates = candidates.filter(candidates.str.contains(f"(?i:{'|'.join(_PATTERNS)})"))
    if candidates.is_empty():
        return candidates
    as_listed, lower = _compile_patterns()
    crawlers = [
        agent
        for agent in candidates
        if (_has_bare_word(agent) or as_listed.search(agent) or (agent == agent.lower() and lower.search(agent)))
        and not any(text in agent for text in app_agents)
    ]
    return pl.Series("user_agent", crawlers, dtype=pl.String)


def _has_bare_word(agent: str) -> bool:
    return not _BARE_WORDS.isdisjoint(_WORD.findall(agent.lower()))


@cache
def _compile_patterns() -> tuple[re.Pattern, re.Pattern]:
    """Return the patterns of the list as one, as they are and in lower case."""
    patterns_by_case = (map(bound, CRAWLER_USER_AGENTS_DATA) for bound in (_bound, _bound_lower))
    as_listed, lower = (re.compile("|".join(patterns)) for patterns in patterns_by_case)
    return as_listed, lower


def _bound(entry: dict) -> str:
    """Return a pattern that begins and ends with a word where all examples of the list have it so.

    A bare word such as Sonic is in the names of phones too, but RankSonicSiteAuditor is an example of its own.
    """
    pattern = entry["pattern"]
    bounds = [(before, after) for before in (_NO_LETTER_BEFORE, "") for after in (_NO_LETTER_AFTER, "(?![a-z])", "")]
    alternatives = [f"{before}(?:{pattern}){after}" for before, after in bounds]
    examples = entry.get("instances", [])
    return next(a for a in alternatives if all(re.search(a, example) for example in examples))


def _bound_lower(entry: dict) -> str:
    """Return a pattern in lower case that begins and ends with a word: without its case it says less."""
    pattern = _ESCAPED_OR_CAPITAL.sub(lambda match: match[1] or match[0].lower(), entry["pattern"])
    return f"{_NO_LETTER_BEFORE}(?:{pattern}){_NO_LETTER_AFTER}"


def count_fingerprints(events: pl.DataFrame, settings: Clean) -> pl.DataFrame:
    """Return how many visitors of a day are alike, all of them with `stretch` null, the one-hit visitors by stretch too.

    Visitors are alike by user agent and country, and again by address, where the other columns are null. A one-hit visitor has
    one event on the day and is not signed in. By agent its fingerprint is what the event is; `stretch` is the part of the day, of
    `bot_fleet_minutes`, in which it happened.
    """
    visitors = events.group_by("visitor_id", "day").agg(
        pl.col("user_agent", "country", "address").min(),
        n=pl.len(),
        is_anonymous=pl.col("is_anonymous").all(),
        at=pl.col("position").first(),
    )
    one_hit = _add_stretch(events[visitors.filter((pl.col("n") == 1) & pl.col("is_anonymous"))["at"]], settings)
    counts = [
        (rows.drop_nulls("address") if "address" in by else rows).group_by(by).agg(n_visitors=pl.len())
        for rows, by in (
            (visitors, _AGENT), (one_hit, ["day", "stretch", *_FINGERPRINT]),
            (visitors, ["day", "address"]), (one_hit, ["day", "stretch", "address"]),
        )
    ]  # fmt: skip
    return pl.concat([NO_COUNTS, *counts], how="diagonal")


def find_fleets(counts: pl.DataFrame, settings: Clean) -> pl.DataFrame:
    """Return the fingerprints of fleets out of the counts of all visitors.

    A fleet is many one-hit visitors that are alike by agent or by address. Others with the user agent or the address of a fleet
    hardly exist; people who open one page with a common browser, or from one office, do more.
    """
    sums = counts.group_by(pl.exclude("n_visitors")).agg(pl.col("n_visitors").sum())
    has_address = pl.col("address").is_not_null()
    parts = [_find_large_share(sums.filter(~has_address), _AGENT, settings)]
    parts.append(_find_large_share(sums.filter(has_address), ["day", "address"], settings))
    return pl.concat(parts)


def _find_large_share(sums: pl.DataFrame, by: list[str], settings: Clean) -> pl.DataFrame:
    """Return the fingerprints of many visitors that are most visitors of their group."""
    is_fingerprint = pl.col("stretch").is_not_null()
    many = sums.filter(is_fingerprint & (pl.col("n_visitors") >= settings.bot_fleet_ids))
    groups = sums.filter(~is_fingerprint).select(*by, n_group="n_visitors")
    in_fleets = many.group_by(by).agg(n_in_fleets=pl.col("n_visitors").sum())
    shares = in_fleets.join(groups, by, "inner", nulls_equal=True)
    fleets = shares.filter(pl.col("n_in_fleets") / pl.col("n_group") >= settings.bot_fleet_share)
    return many.join(fleets, by, "semi", nulls_equal=True).drop("n_visitors")


def flag_robots(events: pl.DataFrame, crawlers: pl.Series, fleets: pl.DataFrame, settings: Clean) -> pl.DataFrame:
    """Add bot_rule, decided per visitor and day, to events in the order of visitor and time; null for people."""
    paused = _add_pauses(events, settings).with_columns(is_crawler=pl.col("user_agent").is_in(crawlers.implode()))
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


def _add_pauses(events: pl.DataFrame, settings: Clean) -> pl.DataFrame:
    """Add `pause`, since the event before on the day, and `within`, of these the pauses within sessions before something else.

    In microseconds. An event that repeats the one before it says that a page is still open: it has no `within`, and no `pause`
    where it is of the type other.
    """
    is_same_day = pl.col("visitor_day") == pl.col("visitor_day").shift(1)
    is_ping = (is_same_day & _repeats_itself()).fill_null(False)
    rows = events.with_columns(is_ping=is_ping)
    pause = pl.when(is_same_day & ~(pl.col("is_ping") & (pl.col("event_type") == "other"))).then(pl.col("event_at").diff())
    within = pl.when(is_same_day & ~pl.col("is_ping")).then(pl.col("event_at").diff())
    measured = rows.with_columns(pause=pause.dt.total_microseconds(), within=within.dt.total_microseconds())
    longest = settings.session_gap_minutes * 60_000_000
    return measured.with_columns(within=pl.when(pl.col("within").is_between(1, longest)).then("within"))


def _repeats_itself() -> pl.Expr:
    """Whether an event says what the one before it said: the same page or product, or the same other event."""
    same = pl.all_horizontal(pl.col(column).eq_missing(pl.col(column).shift(1)) for column in _CONTENT)
    says_what = pl.col("page").is_not_null() | pl.col("product_id").is_not_null() | (pl.col("event_type") == "other")
    return same & says_what


def flag_round_the_clock_activity(events: pl.DataFrame, settings: Clean, time_zone: str = business_day.UTC) -> pl.DataFrame:
    """Set bot_rule and is_bot by the rule that looks beyond the day; an earlier rule is kept. Needs active_since."""
    name = "around_the_clock"
    is_same_day = pl.col("visitor_day") == pl.col("visitor_day").shift(1)
    is_ping = (is_same_day & (pl.col("event_type") == "other") & _repeats_itself()).fill_null(False)
    hour = business_day.to_local_time(pl.col("event_at"), time_zone).dt.hour()
    days = (
        events.filter(~is_ping)
        .group_by("visitor_day", maintain_order=True)
        .agg(
            hours=pl.lit(2, pl.UInt32).pow(hour).cast(pl.UInt32).bitwise_or(),
            unbroken=(pl.col("event_at") - pl.col("active_since")).max(),
        )
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
    has_address = pl.col("address").is_not_null()
    by_agent, by_address = fleets.filter(~has_address), fleets.filter(has_address)
    rule = events["bot_rule"]
    for name, by, members in (
        ("address_fleet", ["day", "stretch", "address"], by_address),
        ("one_hit_fleet", ["day", "stretch", *_FINGERPRINT], by_agent),
    ):
        rows = candidates.join(members, by, "semi", nulls_equal=True)["row"]
        rule = rule.scatter(rows, name) if len(rows) else rule
    return events.with_columns(bot_rule=rule)


def _add_stretch(events: pl.DataFrame, settings: Clean) -> pl.DataFrame:
    return events.with_columns(stretch=pl.col("event_at").dt.epoch("us") // (settings.bot_fleet_minutes * 60_000_000))
