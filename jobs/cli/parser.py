"""The command line: every word of it becomes a typed value here, and nothing below sees a parsed namespace.

Each sub-command sets `run`, a function of the namespace that calls what the command does with typed values.
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from jobs import flow, steps
from jobs.config.locations import locate_source
from jobs.config.settings import Settings, load_settings
from jobs.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `shoal`; a parsed namespace has `run`, to be called with that namespace."""
    parser = argparse.ArgumentParser(prog="shoal", description="Daily customer segments from clickstream and order tables.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_steps(commands)
    _add_refresh(commands)
    _add_results(commands)
    _add_models(commands)
    _add_pages(commands)
    _add_source_commands(commands)
    _add_vectors(commands)
    _add_sample(commands)
    return parser


def _add_steps(commands) -> None:
    """Add a command for every step of jobs/flow.py."""
    first_steps: dict[str, flow.Step] = {step.command[0]: step for step in flow.STEPS}
    for command, step in first_steps.items():
        about = "Great Expectations on one layer." if command == "check" else step.about
        parser = commands.add_parser(command, help=about)
        parser.set_defaults(run=_run_step, command=command, layer=None, retrain=False, search=False)
        if command == "check":
            parser.add_argument("layer", choices=flow.CHECKED_LAYERS)
        _add_days(parser)
        _add_source(parser)
        if command == "train":
            _add_training(parser)
        if command == "score":
            parser.add_argument("--retrain", action="store_true", help="fit the models again even while the champion is fresh")
        if command == "notify":
            parser.add_argument("--dead-letters", action="store_true", help="also send what earlier days have not got accepted")
        if command == "publish":
            parser.add_argument("--run-id", default="by_hand", help="name of the run in marts.refreshes")
            parser.add_argument("--started-at", type=_parse_time, default=None, help="when the run began, ISO 8601, UTC")


def _add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--retrain", action="store_true", help="train even while the champion is fresh")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--search", action="store_true", help="do not train; try sizes and settings, and keep the best")
    instead.add_argument("--texts", action="store_true", help="tune the text model instead, even where it is not enabled or due")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--trials", type=_positive(int), help=f"how many in all; default: {steps.Search.trials}")
    budget.add_argument("--minutes", type=_positive(float), help="instead, how long they may take in all")
    parser.add_argument("--sampler", choices=("tpe", "random", "grid"), help=f"who chooses; default: {steps.Search.sampler}")


def _add_vectors(commands) -> None:
    actions = commands.add_parser("vectors", help="Vectors of the shop's own, such as of images.").add_subparsers(required=True)
    parser = actions.add_parser("import", help="Bring vectors of customers or products in from a file.")
    parser.add_argument("file", help="Parquet, CSV or JSON lines with the columns id and vector")
    parser.add_argument("--kind", choices=("customer", "product"), required=True, help="whose ids the file has")
    parser.add_argument("--model", required=True, help="what made the vectors; another name replaces all of the kind")
    parser.add_argument("--from", dest="known_from", type=date.fromisoformat, default=date(1970, 1, 1), metavar="YYYY-MM-DD",
                        help="day from which they hold; default: always")  # fmt: skip
    _add_source(parser)
    parser.set_defaults(run=_import_vectors)


def _add_refresh(commands) -> None:
    parser = commands.add_parser("refresh", help="Every step of the day, in one process (training in its own).")
    _add_days(parser)
    _add_source(parser)
    parser.add_argument("--retrain", action="store_true", help="train even while the champion is fresh")
    names = [step.name for step in flow.STEPS]
    parser.add_argument(
        "--steps", type=_parse_steps, default=[*flow.STEPS], help=f"only these, in their order: {','.join(names)}"
    )
    parser.set_defaults(run=_refresh)


def _add_results(commands) -> None:
    """Add the commands that print what was published, without Spark."""
    parser = commands.add_parser("segments", help="The published segments as a table.")
    parser.set_defaults(run=_print_segments)
    _add_source(parser)
    parser = commands.add_parser(
        "changes", help="Who was added to, changed or left a segment, or crossed a threshold, since an earlier day."
    )
    parser.add_argument("--since", type=_parse_day, required=True, help="the earlier day, YYYY-MM-DD")
    parser.add_argument("--day", type=_parse_day, help="the later day; default: the latest published one")
    parser.add_argument("--out", type=Path, help="a row for each customer as this .csv or .parquet file")
    parser.set_defaults(run=_print_changes)
    _add_source(parser)
    parser = commands.add_parser("effect", help="What a campaign changed, or what effect it will be able to see.")
    parser.add_argument("name", help="name of a campaign in conf/campaigns")
    parser.add_argument("--day", type=_parse_day, help="as of this published day; default: the latest one")
    parser.set_defaults(run=_print_effect)
    _add_source(parser)
    parser = commands.add_parser("reconcile", help="What became of every row: rows in, rows out, refused and repeated by rule.")
    parser.set_defaults(run=_print_reconciliation)
    _add_days(parser)
    _add_source(parser)
    parser = commands.add_parser("tables", help="Every table: rows, version, newest day.")
    parser.set_defaults(run=_print_tables)
    _add_source(parser)
    parser = commands.add_parser("bi", help="A Thrift server over the marts, for JDBC and ODBC; until Ctrl-C.")
    parser.add_argument("--host", default="127.0.0.1", help="who may reach it, without a password; default: this machine only")
    parser.add_argument("--port", type=int, default=10000, help="default: %(default)s")
    parser.set_defaults(run=_serve_marts)
    _add_source(parser)
    parser = commands.add_parser("serve", help="A read-only HTTP API over the latest published day; until Ctrl-C.")
    parser.add_argument("--host", default="127.0.0.1", help="who may reach it, with the token; default: this machine only")
    parser.add_argument("--port", type=int, default=8090, help="default: %(default)s")
    parser.set_defaults(run=_serve_api)
    _add_source(parser)


def _add_models(commands) -> None:
    parser = commands.add_parser("models", help="The trained models: list, show, compare, promote, rollback.")
    inner = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, about in (
        ("list", "Every model with its figures."),
        ("show", "What a model was made of and from."),
        ("compare", "In what two models differ."),
        ("promote", "Make a model champion."),
        ("rollback", "Make the champion before this one champion again."),
    ):
        parser = inner.add_parser(name, help=about)
        parser.set_defaults(run=_run_models, models_command=name)
        parser.add_argument("--family", choices=flow.MODEL_FAMILIES, default="autoencoder", help="default: %(default)s")
        _add_source(parser)
        if name in ("show", "compare", "promote"):
            parser.add_argument("version")
        if name == "compare":
            parser.add_argument("other")
        if name in ("promote", "rollback"):
            parser.add_argument("--since", type=_parse_day, default=None, help="first day that it is used for")


def _add_pages(commands) -> None:
    commands.add_parser("catalogue", help="The features as a page (docs/features.md).").set_defaults(run=_print_catalogue)
    commands.add_parser("rules", help="The rules of cleaning as a page (docs/rules.md).").set_defaults(run=_print_rules)


def _add_source_commands(commands) -> None:
    parser = commands.add_parser("source", help="Write a first mapping; look at a mapping; take the rows of a file back out.")
    inner = parser.add_subparsers(required=True, metavar="COMMAND")
    parser = inner.add_parser("init", help="Write a first mapping of the files of a folder, with how sure each line is.")
    parser.add_argument("folder", help="folder or URI of the files")
    parser.add_argument("--out", type=Path, help="default: conf/sources/FOLDER.toml")
    parser.set_defaults(run=_init_source)
    parser = inner.add_parser("check", help="What a mapping makes of the first rows, and what is wrong with it.")
    parser.add_argument("mapping", help="conf/sources/NAME.toml, or NAME")
    parser.add_argument("--input", default=None, help="folder or URI of the files")
    parser.add_argument("--rows", type=_positive(int), default=500, help="how many first rows of a file; default: %(default)s")
    parser.set_defaults(run=_check_source)
    parser = inner.add_parser(
        "forget", help="Take the rows of a landed file out of bronze; later layers follow at their next run."
    )
    parser.add_argument("file", help="the file's name under the input folder")
    parser.add_argument("--table", choices=("events", "orders", "products", "customers", "rates"), help="only out of this table")
    parser.add_argument("--undo", action="store_true", help="let the next landing take a forgotten file up again")
    parser.set_defaults(run=_forget_file)
    _add_source(parser)


def _add_sample(commands) -> None:
    parser = commands.add_parser("sample", help="Make a realistic shop to try things on.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--customers", type=int, default=2000)
    parser.add_argument("--days", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    parser.add_argument("--last-day", type=date.fromisoformat, default=yesterday, help="default: yesterday, UTC")
    parser.add_argument("--without-tastes", action="store_true", help="plant no tastes, which show in texts")
    parser.add_argument("--without-rhythms", action="store_true", help="plant no rhythms, which only the order of events shows")
    parser.add_argument("--print-last-day", action="store_true", help="only print the last day of the shop that lies there")
    parser.set_defaults(run=_make_sample)


def _add_days(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--day", type=_parse_day, help="the day, YYYY-MM-DD")
    parser.add_argument("--from", dest="start", type=_parse_day, help="first of several days")
    parser.add_argument("--to", dest="end", type=_parse_day, help="last of several days")


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", help="whose lake, models and reports; default: the source refreshed last")


# --- What a command calls, with typed values


def _run_step(arguments: argparse.Namespace) -> None:
    command = (arguments.command, *([arguments.layer] if arguments.layer else []))
    options = steps.Options(
        _days(arguments),
        arguments.retrain,
        getattr(arguments, "run_id", "by_hand"),
        getattr(arguments, "started_at", None),
        _search(arguments) if arguments.command == "train" else None,
        getattr(arguments, "dead_letters", False),
        getattr(arguments, "texts", False),
    )
    steps.run_command(command, _settings(arguments), options)


def _refresh(arguments: argparse.Namespace) -> None:
    options = steps.Options(_days(arguments), arguments.retrain, started_at=datetime.now(UTC))
    steps.refresh(_settings(arguments), arguments.steps, options)


def _print_segments(arguments: argparse.Namespace) -> None:
    from jobs.cli.segments import print_segments

    print_segments(_settings(arguments))


def _print_changes(arguments: argparse.Namespace) -> None:
    from jobs.cli.changes import print_changes

    print_changes(_settings(arguments), arguments.since, arguments.day, arguments.out)


def _print_effect(arguments: argparse.Namespace) -> None:
    from jobs.cli.effects import print_effect

    print_effect(_settings(arguments), arguments.name, arguments.day)


def _print_reconciliation(arguments: argparse.Namespace) -> None:
    from jobs.cli.reconciliation import print_reconciliation

    print_reconciliation(_settings(arguments), _days(arguments))


def _print_tables(arguments: argparse.Namespace) -> None:
    from jobs.cli.tables import print_tables

    print_tables(_settings(arguments).lake)


def _serve_marts(arguments: argparse.Namespace) -> None:
    from jobs.cli.bi import serve_marts

    serve_marts(_settings(arguments).lake, arguments.host, arguments.port)


def _serve_api(arguments: argparse.Namespace) -> None:
    from jobs.cli.serve import serve_api

    serve_api(_settings(arguments).lake, arguments.host, arguments.port)


def _run_models(arguments: argparse.Namespace) -> None:
    from jobs.cli import models

    root, family = _settings(arguments).models, arguments.family
    {
        "list": lambda: models.print_models(root, family),
        "show": lambda: models.print_model(root, arguments.version, family),
        "compare": lambda: models.print_comparison(root, arguments.version, arguments.other, family),
        "promote": lambda: models.promote_model(root, arguments.version, arguments.since, family),
        "rollback": lambda: models.rollback_champion(root, arguments.since, family),
    }[arguments.models_command]()


def _print_catalogue(arguments: argparse.Namespace) -> None:
    from jobs import catalogue

    print(catalogue.as_markdown(), end="")


def _print_rules(arguments: argparse.Namespace) -> None:
    from jobs.clean import rules

    print(rules.as_markdown(), end="")


def _init_source(arguments: argparse.Namespace) -> None:
    from jobs.cli.source import init_source

    init_source(arguments.folder, arguments.out)


def _check_source(arguments: argparse.Namespace) -> None:
    from jobs.cli.source import check_source

    settings = load_settings()
    check_source(replace(settings, input=arguments.input or settings.input), arguments.mapping, arguments.rows)


def _import_vectors(arguments: argparse.Namespace) -> None:
    from jobs.cli import vectors

    settings = _settings(arguments)
    rows = vectors.read_vectors(arguments.file, arguments.kind, arguments.model, arguments.known_from)
    print(f"{steps.import_vectors(settings, rows):,} vectors in features.vectors")


def _forget_file(arguments: argparse.Namespace) -> None:
    steps.forget_file(_settings(arguments), arguments.file, arguments.table, arguments.undo)


def _make_sample(arguments: argparse.Namespace) -> None:
    from jobs.sample import writer
    from jobs.sample.customers import Plants

    if arguments.print_last_day:
        print(writer.read_last_day(arguments.out))
        return
    plants = Plants(not arguments.without_tastes, not arguments.without_rhythms)
    sizes = arguments.customers, arguments.days, arguments.seed
    writer.write_shop(arguments.out, *sizes, arguments.last_day, plants=plants)


# --- Types


def _settings(arguments: argparse.Namespace) -> Settings:
    return load_settings(locate_source(dict(os.environ), arguments.source))


def _days(arguments: argparse.Namespace) -> list[date]:
    """Return the days of --day, or of --from to --to. Raises UserError for neither, both or a reversed range."""
    if arguments.day and not (arguments.start or arguments.end):
        return [arguments.day]
    if arguments.start and arguments.end and not arguments.day:
        if arguments.start > arguments.end:
            raise UserError(f"--from {arguments.start} is after --to {arguments.end}")
        return [arguments.start + timedelta(days=n) for n in range((arguments.end - arguments.start).days + 1)]
    raise UserError("say which day: --day D, or --from A --to B")


def _search(arguments: argparse.Namespace) -> steps.Search | None:
    if not arguments.search:
        if arguments.trials or arguments.minutes or arguments.sampler:
            raise UserError("train: --trials, --minutes and --sampler go with --search")
        return None
    trials = None if arguments.minutes else arguments.trials or steps.Search.trials
    return steps.Search(trials, arguments.minutes, arguments.sampler or steps.Search.sampler)


def _parse_day(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a day; write YYYY-MM-DD") from None
    today = datetime.now(UTC).date()
    if day > today:
        raise argparse.ArgumentTypeError(f"day {day} is in the future (today is {today}); name a day that is over")
    return day


def _positive(number_type: type) -> Callable[[str], float]:
    def parse(text: str) -> float:
        number = number_type(text)
        if not 0 < number < float("inf"):
            raise argparse.ArgumentTypeError(f"'{text}' is not above 0")
        return number

    return parse


def _parse_steps(text: str) -> list[flow.Step]:
    names = text.split(",")
    if unknown := sorted(set(names) - {step.name for step in flow.STEPS}):
        raise argparse.ArgumentTypeError(f"'{unknown[0]}' is not a step")
    return [step for step in flow.STEPS if step.name in names]


def _parse_time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
