"""The rules of the house: one table, one name, five places; who may import whom; Spark through what Connect serves."""

import ast
import importlib
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from jobs import flow
from jobs.storage.table import Table

ROOT = Path(__file__).resolve().parent.parent
TABLES = [(layer, table) for layer, tables in flow.TABLES.items() for table in tables]
# What every layer may use.
FOUNDATION = {
    "account_merges",
    "config",
    "storage",
    "engine",
    "business_day",
    "catalogue",
    "concurrency",
    "encoder",
    "errors",
    "experiments",
    "flow",
    "event_sequences",
    "event_time",
    "garbage",
    "input_groups",
    "outcome_cases",
    "outcome_schedule",
    "parsing",
    "progress",
    "representations",
    "segment_history",
    "text_models",
    "quality.omissions",
    "quality.reconciliation",
    "report.formatting",
    "traits",
}
MAY_IMPORT = {
    "autoencoder": {
        "config",
        "storage",
        "catalogue",
        "concurrency",
        "errors",
        "encoder",
        "event_sequences",
        "garbage",
        "input_groups",
        "outcome_cases",
        "outcome_schedule",
        "progress",
        "cli.text_table",
        "autoencoder",
    },
    **{layer: FOUNDATION | {layer} for layer in flow.TABLES},
}
# clean counts what came in by the register of landed files
MAY_IMPORT["clean"] = MAY_IMPORT["clean"] | {"bronze.files"}

# Modules of a layer that are no table, besides pipeline.py and the helpers, whose names begin with an underscore.
NO_TABLES = {"clean": {"rules"}, "quality": {"custom_expectations", "drift", "suites", "validation"}}


def tables() -> dict[str, Table]:
    """Return the contract of every table by its name."""
    return {f"{layer}.{table}": importlib.import_module(f"jobs.{layer}.{table}").TABLE for layer, table in TABLES}


def sources(folder: str) -> list[Path]:
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths, f"no sources in {folder}"
    return paths


def imported(path: Path) -> set[str]:
    """Return every module that a file imports, anywhere in it, as dotted names."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize(("layer", "table"), TABLES)
def test_a_table_has_its_places(layer, table):
    assert (ROOT / "jobs" / layer / f"{table}.py").is_file()
    assert (ROOT / "tests" / "jobs" / layer / f"test_{table}.py").is_file()
    is_checked = table in flow.CHECKED_TABLES.get(layer, ())
    assert (ROOT / "expectations" / layer / f"{table}.json").is_file() == is_checked
    assert importlib.import_module(f"jobs.{layer}.{table}").TABLE.name == f"{layer}.{table}"


def test_every_table_is_checked_but_for_rejects_and_layers_without_a_check():
    """Rejects and quality.* would take a refresh more than a second longer; docs/adr/validation.md says what holds them."""
    unchecked = {f"{layer}.{table}" for layer, table in TABLES if table not in flow.CHECKED_TABLES.get(layer, ())}
    rejects = {f"clean.{table}_rejects" for table in ("events", "orders", "products", "customers")}
    without_check = {
        f"{layer}.{table}" for layer in ("bronze", "segments", "activation", "quality") for table in flow.TABLES[layer]
    }
    assert unchecked == rejects | without_check


def test_no_place_is_left_of_a_table_that_is_gone():
    for layer in flow.TABLES:
        for folder, ending in (("jobs", ".py"), ("expectations", ".json")):
            stems = {
                p.name.removesuffix(ending) for p in (ROOT / folder / layer).glob(f"*{ending}") if not p.name.startswith("_")
            }
            stems -= {"pipeline", *NO_TABLES.get(layer, ())}
            assert stems <= set(flow.TABLES[layer]), f"{folder}/{layer}: {stems - set(flow.TABLES[layer])} is no table"


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_layers_meet_only_in_the_lake(layer):
    for path in sources(f"jobs/{layer}"):
        for name in {n.removeprefix("jobs.") for n in imported(path) if n.startswith("jobs.")}:
            allowed = any(name == ok or name.startswith(f"{ok}.") for ok in MAY_IMPORT[layer])
            allowed = allowed or (name in tables() and uses_only_the_contract(path, name))
            assert allowed, f"{path.relative_to(ROOT)} imports jobs.{name}"


def uses_only_the_contract(path: Path, table: str) -> bool:
    """Return whether a file imports the module of a table as `<layer>_<table>` and takes nothing but its contract from it."""
    alias = table.replace(".", "_")
    uses = re.findall(rf"\b{alias}\b(?:\.\w+)?", path.read_text())
    return f"{alias}.TABLE" in uses and set(uses) <= {alias, f"{alias}.TABLE"} and uses.count(alias) == 1


def test_heavy_packages_have_their_homes():
    homes = dict.fromkeys(("torch", "mlflow", "tensorboardX", "optuna"), ("jobs/autoencoder/",))
    homes |= {"great_expectations": ("jobs/quality/",), "airflow": (), "sklearn": ("jobs/autoencoder/", "jobs/segments/")}
    for path in sources("jobs"):
        for name in imported(path):
            package = name.split(".")[0]
            if package in homes:
                assert str(path.relative_to(ROOT)).startswith(homes[package]), f"{path.relative_to(ROOT)} imports {package}"


def test_dags_know_nothing_of_the_jobs():
    for path in sources("dags"):
        assert not {n for n in imported(path) if n.split(".")[0] in ("jobs", "pyspark", "torch")}, path


def test_the_dag_has_the_steps_of_the_flow():
    text = (ROOT / "dags" / "daily_refresh.py").read_text()
    missing = [step.name for step in flow.STEPS if not re.search(rf"\b{step.name}\b", text)]
    assert not missing


def test_spark_is_used_only_through_what_connect_serves():
    banned = re.compile(r"sparkContext|\._jvm|\._jdf|\._jsparkSession|\.rdd\b|\bDeltaTable\.for|import SparkContext")
    for path in sources("jobs"):
        match = banned.search(path.read_text())
        assert not match, f"{path.relative_to(ROOT)} uses {match.group()}"


def test_only_the_command_line_has_a_clock():
    clock = re.compile(r"\b(datetime\.now|date\.today|current_timestamp|current_date|time\.time)\(")
    for path in sources("jobs"):
        # storage/commits.py stamps entries of Delta's log, which are no rows
        if path.name not in ("steps.py", "commits.py") and path.parent.name != "cli":
            match = clock.search(path.read_text())
            assert not match, f"{path.relative_to(ROOT)} asks the clock: {match.group()}"


def test_tables_are_opened_in_one_place():
    opens = re.compile(
        r"\bDeltaTable\(|\bDeltaTable\.is_deltatable|\.read\.format\(|\.readStream|import deltalake\b|write_deltalake"
    )
    writes = re.compile(r"\.write(To)?\b(?!\()|\.saveAsTable|\.writeStream")
    for path in sources("jobs"):
        if path.parent.name != "storage":
            for pattern in (opens, writes):
                match = pattern.search(path.read_text())
                assert not match, f"{path.relative_to(ROOT)}: {match.group()}; use jobs.storage.lake or jobs.storage.delta"


def test_every_join_says_how():
    for path in sources("jobs"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "join":
                receiver_is_text = isinstance(node.func.value, ast.Constant) or len(node.args) == 1
                keywords = {k.arg for k in node.keywords}
                assert receiver_is_text or len(node.args) == 3 or "how" in keywords, f"{path.relative_to(ROOT)}:{node.lineno}"


MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 40
CODE = ("jobs", "dags", "setup", "benchmarks")
# Participles and pronouns say nothing of what a variable holds; clean and features are to be rewritten.
NO_NOUNS = {"one", "other", "found", "made", "known", "told", "both", "wanted", "given", "work"}
NOT_WORDED_YET = ()


@pytest.mark.parametrize("folder", CODE)
def test_files_and_functions_are_short(folder):
    for path in sources(folder):
        text = path.read_text()
        assert text.count("\n") <= MAX_FILE_LINES, f"{path.relative_to(ROOT)} is long; split it by meaning"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                assert lines <= MAX_FUNCTION_LINES, f"{path.relative_to(ROOT)}: {node.name} has {lines} lines"


def test_no_module_imports_itself_through_others():
    """Imports in functions and for type checking count too."""
    paths = [path for folder in CODE for path in sources(folder)]
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    graph = {}
    for name, path in modules.items():
        names = imported(path) | {dotted.rpartition(".")[0] for dotted in imported(path)}
        graph[name] = (names & set(modules)) - {name}
    assert tuple(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


@pytest.mark.parametrize("folder", [*CODE, "tests"])
def test_a_variable_is_named_by_a_noun(folder):
    for path in sources(folder):
        if not str(path.relative_to(ROOT)).startswith(NOT_WORDED_YET):
            for node in ast.walk(ast.parse(path.read_text())):
                name = node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else getattr(node, "arg", None)
                assert name not in NO_NOUNS, f"{path.relative_to(ROOT)}:{node.lineno}: {name}"


def test_no_index_address_and_no_machine_path_is_committed():
    address = re.compile(r"https?://(?!localhost|127\.0\.0\.1|\$)\S+")
    files = [*(ROOT / "requirements").iterdir(), ROOT / "Makefile", ROOT / "pyproject.toml", *(ROOT / "conf").rglob("*")]
    for path in files:
        if path.is_file():
            assert not address.search(path.read_text()), path.relative_to(ROOT)
