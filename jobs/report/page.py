"""The page of a day: one HTML file, readable without a network.

Input: marts.segment_profiles of the day, which must be published. Also segments.*, encoded.customers, scores.*, quality.*,
clean.events, clean.identity_alarms, marts.segment_moves, marts.effects, marts.refreshes and the facts of the models. The section
of a table that has nothing for the day says so; without a campaign there is no section on them, and none on groups of inputs
without these.
"""

from datetime import date
from functools import cache, partial
from pathlib import Path

from jobs.config.settings import Settings
from jobs.config.source_mapping import load_source
from jobs.errors import UserError
from jobs.report import (
    ablation,
    actions,
    campaigns,
    customer_map,
    data_quality,
    formatting,
    history,
    model_choice,
    model_facts,
    outcomes,
    overview,
    recommendations,
    values,
)
from jobs.report._segments import dormant_last
from jobs.report._tables import read_rows
from jobs.storage.delta import read_arrow
from jobs.storage.files import write_atomically

TEMPLATE = "page.html.jinja"
FILTERS = (
    formatting.format_amount,
    formatting.format_count,
    formatting.format_css_length,
    formatting.format_day_count,
    formatting.format_decimals,
    formatting.format_gain,
    formatting.format_money,
    formatting.format_number,
    formatting.format_percent,
)


def write_page(settings: Settings, day: date) -> str:
    """Write `<reports>/<day>/index.html`, whole or not at all, and return its path.

    Raises UserError where the day is not published, or the page cannot be written.
    """
    page = _render_page(settings, day)
    path = page_path(settings, day)
    try:
        write_atomically(path, page.encode())
    except OSError as error:
        raise UserError(f"report: {path} cannot be written ({error}); choose another folder with SHOAL_REPORTS") from error
    return path


def page_path(settings: Settings, day: date) -> str:
    """Return the path or URI of a day's page."""
    return f"{settings.reports}/{day}/index.html"


def _render_page(settings: Settings, day: date) -> str:
    profiles = read_arrow(settings.lake, "marts.segment_profiles", day=day).to_pylist()
    if not profiles:
        raise UserError(
            f"report: marts.segment_profiles in {settings.lake} has no rows on {day}; run first: shoal publish --day {day}"
        )
    profiles.sort(key=dormant_last)
    shop = load_source(settings.source)
    sections = _summarize_segments(settings, day, profiles, shop.currency) | _summarize_run(settings, day)
    shared = {"source": shop.name.replace("_", " "), "currency": shop.currency, "time_zone": settings.business_time_zone}
    return _load_template().render(day=day, **shared, **sections)


def _summarize_segments(settings: Settings, day: date, profiles: list[dict], currency: str) -> dict:
    """Return what the sections on the segments and their model show."""
    read = partial(read_rows, settings.lake)
    version = profiles[0]["model_version"]
    definitions = read("segments.definitions")
    of_model = [d for d in definitions if d["model_version"] == version]
    names = {d["segment_id"]: d["name"] for d in sorted(definitions, key=lambda d: d["fitted_on"])}
    names |= {p["segment_id"]: p["segment_name"] for p in profiles}
    headline = overview.summarize_customers(profiles)
    segments = overview.describe_segments(profiles, headline["active"], of_model, currency)
    scores = {
        "worth": values.summarize_values(settings, day, segments),
        "outcomes": outcomes.summarize_outcomes(settings, day, segments),
        "offers": recommendations.summarize_recommendations(settings, day, segments),
    }
    candidates = read("segments.candidates")
    moves = read("marts.segment_moves", day=day)
    of_campaigns = campaigns.summarize_campaigns(settings.lake, day)
    held_out = campaigns.list_holdouts(of_campaigns, day)
    return scores | {
        "headline": headline,
        "segments": segments,
        "campaigns": of_campaigns,
        "actions": actions.describe_actions(segments, **scores, moves=moves, holdouts=held_out),
        "map": customer_map.draw_map(settings.lake, day, version, definitions, segments),
        "sizes": history.draw_sizes(settings.lake, day, names),
        "moves": history.summarize_moves(moves, names),
        "candidates": model_choice.summarize_candidates(candidates, version),
        "groups": ablation.summarize_groups(settings, day, candidates, version),
        "fit": model_choice.summarize_fit(of_model),
        "version": version,
        "model": model_facts.read_model(settings.models, version, day),
    }


def _summarize_run(settings: Settings, day: date) -> dict:
    """Return what the sections on the day's run, its decision and its data quality show."""
    read = partial(read_rows, settings.lake)
    results = read("quality.results", day=day)
    run = max(read("marts.refreshes", day=day), key=lambda run: run["finished_at"], default=None)
    return {
        "run": run,
        "decision": model_choice.summarize_decision(run),
        "representations": model_choice.REPRESENTATIONS,
        "reconciliation": data_quality.summarize_reconciliation(read("quality.reconciliation"), day),
        "robots": data_quality.count_robots(settings.lake, day),
        "alarms": data_quality.count_alarms(settings.lake, day),
        "checks": data_quality.summarize_checks(results),
        "drift": model_facts.summarize_drift(results),
    }


@cache
def _load_template():
    import jinja2

    # Names come from data: everything is escaped, whatever the file is called.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {function.__name__: function for function in FILTERS}
    return environment.get_template(TEMPLATE)
