"""Typed settings: conf/<SHOAL_ENV>.toml, then SHOAL_* variables. An unknown key is an error, never ignored."""

import math
import os
import tomllib
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

from jobs.errors import UserError

HOME = Path(__file__).resolve().parent.parent.parent

# Variables of Shoal that are no settings of a job: where the environments are, the secrets, the name of the settings file.
_OTHER_VARIABLES = {
    "SHOAL_ENV", "SHOAL_SECRET", "SHOAL_HOME", "SHOAL_LOCK_TOKEN", "SHOAL_PARENT", "SHOAL_REMOTE", "SHOAL_SESSION_FILE",
    "SHOAL_API_TOKEN", "SHOAL_SPARK_BIN", "SHOAL_SPARK_HOME", "SHOAL_SPARK_PYTHON", "SHOAL_TRAIN_PYTHON",
    "SHOAL_UMASK",
}  # fmt: skip


_NO_ZONES = ("Factory", "localtime")  # of the database, but none of any place
_LEAST_SECRET = 16  # characters, below which a key can be guessed
BEST = "best"  # the representation that the gate chooses
KMEANS = "kmeans"
STATIC_TEXT_MODEL, TUNED_TEXT_MODEL, NO_TEXT_MODEL = "static", "tuned", "none"  # besides folders, values of text.model
TEXT_MODEL_NAMES = (STATIC_TEXT_MODEL, "minilm", TUNED_TEXT_MODEL, NO_TEXT_MODEL)
MAX_UNPACKED_GIB = 64.0


class TimeZone(str):
    """A name of the IANA time zone database, as in Europe/Berlin."""

    __slots__ = ()


def _choice(default: str, *others: str):
    """Declare a setting that is one of these words."""
    return field(default=default, metadata={"words": (default, *others)})


def _within(default, least: float, most: float = math.inf):
    """Declare a setting with a range; of several numbers each must be within it."""
    return field(default=default, metadata={"range": (least, most)})


@dataclass(frozen=True)
class Clean:
    session_gap_minutes: int = _within(30, 1)
    session_max_hours: int = _within(24, 1)
    late_days: int = _within(3, 0)
    rate_days: int = _within(4, 0)
    most_amount: float = _within(1e9, 0.01, 1e10)
    first_day: date = date(1990, 1, 1)
    bot_events_per_day: int = _within(2000, 1)
    bot_pause_seconds: float = _within(1.0, 0)
    bot_pause_events: int = _within(100, 1)
    bot_even_pauses: int = _within(30, 1)
    bot_even_spread: float = _within(0.1, 0)
    bot_active_hours: int = _within(20, 1)
    bot_fleet_ids: int = _within(20, 1)
    bot_fleet_minutes: int = _within(60, 1)
    bot_fleet_share: float = _within(0.9, 0, 1)
    clock_skew_seconds: float = _within(60.0, 0)
    max_customers_per_visitor: int = _within(5, 1)
    customers_within_days: int = _within(30, 1)
    max_customers_per_mail: int = _within(1, 1)
    max_mails_per_customer: int = _within(2, 1)
    shared_customer_least: int = _within(20, 2)
    shared_customer_factor: float = _within(10.0, 1)
    double_tag_seconds: float = _within(2.0, 0)
    transaction_days: int = _within(14, 0)
    app_agents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Features:
    dormant_days: int = _within(365, 1)
    holiday_country: str = "GB"


@dataclass(frozen=True)
class Text:
    model: str = STATIC_TEXT_MODEL
    max_characters: int = _within(1000, 1)
    max_tokens: int = _within(128, 3)
    windows: tuple[int, ...] = _within((30, 365), 1)
    half_life_days: float = _within(90.0, 0.1)
    search_weight: float = _within(2.0, 0, 1000)
    view_weight: float = _within(1.0, 0, 1000)
    cart_weight: float = _within(3.0, 0, 1000)
    order_weight: float = _within(5.0, 0, 1000)


@dataclass(frozen=True)
class Train:
    retrain_every_days: int = _within(7, 0)
    retrain_psi: float = _within(0.25, 0)
    seed: int = 17
    hidden: tuple[int, ...] = _within((256, 128), 1)
    latent: int = _within(10, 1)
    dropout: float = _within(0.0, 0, 0.9)
    layer_norm: bool = False
    neighbours: int = _within(10, 0)
    noise: float = _within(0.1, 0, 0.9)
    isometry: float = _within(0.1, 0)
    group_components: int = _within(16, 1)
    group_weight: float = _within(0.5, 0.01)
    group_dropout: float = _within(0.3, 0, 0.9)
    clusters: int = _within(0, 0)
    epochs: int = _within(60, 1)
    max_steps: int = _within(12_000, 1)
    patience: int = _within(10, 1)
    batch_size: int = _within(1024, 2)
    learning_rate: float = _within(0.001, 0, 1)
    weight_decay: float = _within(0.01, 0, 1)
    checkpoint_seconds: float = _within(30.0, 0)
    memory_share: float = _within(0.5, 0, 1)
    min_customers: int = _within(50, 1)
    backtest_days: int = _within(30, 0)
    tracking: str = "local"
    tensorboard: str = ""


MAX_SEQUENCE_EVENTS = 500  # of a customer, and of a day in features.event_sequences
NO_SEQUENCE = "none"


@dataclass(frozen=True)
class Sequence:
    encoder: str = _choice("gru", "transformer", NO_SEQUENCE)
    max_events: int = _within(100, 2, MAX_SEQUENCE_EVENTS)
    products: int = _within(2000, 0)
    width: int = _within(64, 4)
    dimension: int = _within(32, 1)
    epochs: int = _within(12, 1)
    max_steps: int = _within(3000, 1)
    patience: int = _within(3, 1)
    batch_size: int = _within(64, 2)
    learning_rate: float = _within(0.003, 0, 1)


@dataclass(frozen=True)
class Segment:
    k_min: int = 3
    k_max: int = 15
    min_share: float = _within(0.01, 0, 1)
    min_customers: int = _within(50, 1)
    min_stability: float = _within(0.6, 0, 1)
    k_lead: float = _within(0.05, 0)
    continuity: float = _within(0.03, 0)
    resamples: int = _within(7, 2)
    kept_share: float = _within(0.5, 0, 1)
    moved_share: float = _within(0.5, 0, 1)
    renamed_at: float = _within(0.5, 0)
    known_days: int = _within(30, 1)
    seeds: int = _within(10, 1)
    seed: int = 17
    sample: int = _within(100_000, 1)
    outlier_sigmas: float = _within(3.0, 0)
    min_cell: int = _within(5, 1)
    representation: str = _choice(
        BEST, "learned", "learned_text", "learned_own_vectors", "learned_sequence", "learned_all", "sequence", "pca", "features"
    )
    method: str = _choice(KMEANS, "bisecting", "gaussian_mixture", "ward", "hdbscan")


# Settings that are paths or URIs; relative ones begin at the project's folder.
_ROOTS = ("lake", "models", "reports", "input", "policy", "outcomes", "activation", "campaigns")
VALUES_BACKTEST_DAYS = 90  # columns of features.customers hold what customers ordered in so many last days


@dataclass(frozen=True)
class Scores:
    retrain_every_days: int = _within(7, 0)
    min_repeat_buyers: int = _within(100, 1)
    min_gap_variation: float = _within(0.3, 0, 1)
    outcomes_every_days: int = _within(28, 0)
    min_buyers: int = _within(50, 1)
    seed: int = 17


@dataclass(frozen=True)
class Settings:
    """All settings. Roots are paths, relative ones from the project's folder, or object-store URIs."""

    lake: str
    models: str
    reports: str
    source: str
    input: str
    policy: str = "conf/policy.toml"
    outcomes: str = "conf/outcomes.toml"
    activation: str = "conf/activation.toml"
    campaigns: str = "conf/campaigns"
    business_time_zone: TimeZone = TimeZone("UTC")  # noqa: RUF009  a text
    stall_minutes: float = _within(60.0, 5)
    engine: str = _choice("auto", "local", "spark")
    local_max_rows: int = _within(100_000_000, 0)
    max_unpacked_gib: float = _within(MAX_UNPACKED_GIB, 0)
    clean: Clean = field(default_factory=Clean)
    features: Features = field(default_factory=Features)
    text: Text = field(default_factory=Text)
    train: Train = field(default_factory=Train)
    sequence: Sequence = field(default_factory=Sequence)
    segment: Segment = field(default_factory=Segment)
    scores: Scores = field(default_factory=Scores)


def load_settings(environment: dict[str, str] | None = None) -> Settings:
    """Return the settings of this process.

    Raises UserError for a missing file, an unknown key or variable, and a value of the wrong type or out of its range.
    """
    env = dict(os.environ if environment is None else environment)
    path = HOME / "conf" / f"{env.get('SHOAL_ENV', 'local')}.toml"
    try:
        values = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"settings: {path} does not exist; SHOAL_ENV names a file of conf/") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"settings: {path}: {error}") from None
    _apply_variables(values, env)
    settings = _parse_section(Settings, values, str(path), "")
    return replace(
        settings,
        **{root: _absolute(getattr(settings, root)) for root in _ROOTS},
        train=replace(settings.train, tensorboard=settings.train.tensorboard and _absolute(settings.train.tensorboard)),
        text=replace(settings.text, model=_resolve_text_model(settings.text.model)),
    )


def _apply_variables(values: dict, environment: dict[str, str]) -> None:
    """Put SHOAL_* variables over the values of the file: SHOAL_CLEAN__LATE_DAYS is `late_days` of the table `clean`."""
    for name, text in environment.items():
        if name.startswith("SHOAL_") and name not in _OTHER_VARIABLES:
            *tables, key = name.removeprefix("SHOAL_").lower().split("__")
            table = values
            for part in tables:
                table = table.setdefault(part, {})
                if not isinstance(table, dict):
                    raise UserError(f"settings: variable {name}: {part} is a value, not a table")
            table[key] = text


def read_secret(environment: dict[str, str] | None = None, purpose: str = "the source has personal fields") -> str:
    """Return the key of hashes: of personal fields, or for another `purpose`.

    Raises UserError where it is not set, or too short to be one.
    """
    value = (os.environ if environment is None else environment).get("SHOAL_SECRET", "")
    if not value.strip():
        raise UserError(f"settings: {purpose} and SHOAL_SECRET is not set; set it to a long random text and keep it")
    if len(value) < _LEAST_SECRET:
        raise UserError(f"settings: SHOAL_SECRET has {len(value)} characters, and must have at least {_LEAST_SECRET}")
    return value


def _parse_section(section: type, values: dict, path: str, prefix: str):
    """Return `values` as the dataclass `section`; `prefix` names it in errors, such as "clean."."""
    declared = {f.name: f for f in fields(section)}
    for key in values:
        if key not in declared:
            raise UserError(f"settings: unknown key '{prefix}{key}' in {path} or SHOAL_*; known: {', '.join(sorted(declared))}")
    parsed = {}
    for name, value in values.items():
        if not is_dataclass(declared[name].type):
            parsed[name] = _parse_value(declared[name], value, f"settings: {prefix}{name} = {value!r} ({path} or SHOAL_*)")
        elif isinstance(value, dict):
            parsed[name] = _parse_section(declared[name].type, value, path, f"{prefix}{name}.")
        else:
            raise UserError(f"settings: {prefix}{name} = {value!r} ({path} or SHOAL_*) must be a table")
    missing = [n for n in ("lake", "models", "reports", "source", "input") if section is Settings and n not in parsed]
    if missing:
        raise UserError(f"settings: {path} lacks {', '.join(missing)}")
    return section(**parsed)


def _parse_value(declared: Field, value: object, place: str) -> object:
    """Return the value in the declared type. Raises UserError, which begins with `place`, for a wrong one."""
    parse, description = _PARSERS.get(declared.type, (declared.type, declared.type.__name__))
    try:
        parsed = parse(value)
    except (TypeError, ValueError, KeyError):
        raise UserError(f"{place} must be {description}") from None
    words = declared.metadata.get("words")
    if words and parsed not in words:
        raise UserError(f"{place} must be one of {', '.join(words)}")
    least, most = declared.metadata.get("range", (None, None))
    numbers = parsed if isinstance(parsed, tuple) else (parsed,)
    if least is not None and not all(least <= number <= most for number in numbers):
        raise UserError(f"{place} must be at least {least}" + (f" and at most {most}" if most < math.inf else ""))
    return parsed


def _parse_boolean(value: str | bool) -> bool:
    return {"true": True, "false": False}[str(value).lower()]


def _parse_texts(value: str | list[str]) -> tuple[str, ...]:
    texts = value.split(",") if isinstance(value, str) else value
    return tuple(text for text in map(str.strip, texts) if text)


def _parse_integers(value: str | list[int]) -> tuple[int, ...]:
    return tuple(int(number) for number in (value.split(",") if isinstance(value, str) else value))


def _parse_time_zone(value: str) -> TimeZone:
    try:
        ZoneInfo(value)
    except OSError:  # a folder of zones
        raise ValueError(value) from None
    if value in _NO_ZONES:
        raise ValueError(value)
    return TimeZone(value)


# Parsers for types whose constructor does not read a value of TOML or a variable's text, with their description for errors.
_PARSERS = {
    bool: (_parse_boolean, "true or false"),
    TimeZone: (_parse_time_zone, "a time zone, as in Europe/Berlin"),
    date: (lambda value: date.fromisoformat(str(value)), "a day, as in 1990-01-01"),
    tuple[str, ...]: (_parse_texts, 'texts, as in ["MyShop/", "MyTill/"] or MyShop/,MyTill/'),
    tuple[int, ...]: (_parse_integers, "whole numbers, as in [256, 128] or 256,128"),
}


def _resolve_text_model(model: str) -> str:
    return model if model in TEXT_MODEL_NAMES else _absolute(model)


def _absolute(root: str) -> str:
    return root if "://" in root else str(HOME / Path(root).expanduser())
