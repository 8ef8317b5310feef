import tomllib
from pathlib import Path

import pytest

from jobs import catalogue
from jobs.config import policy
from jobs.config.policy import Column
from jobs.config.settings import HOME
from jobs.errors import UserError


@pytest.fixture
def load(tmp_path: Path):
    """Return the policy that a text describes."""

    def load(text: str) -> policy.Policy:
        (tmp_path / "policy.toml").write_text(text)
        return policy.load_policy(str(tmp_path / "policy.toml"))

    return load


def test_a_column_has_its_own_treatment_or_the_default(load):
    policy_of_text = load("""
        [features.customers]
        default = { outliers = "iqr", factor = 2, categories = 5, scaling = "robust" }
        spend = { missing = "model", scaling = "log1p" }
        visits = { missing = "constant", value = -1, outliers = "quantile", shares = [0, 0.9] }
        country = { categories = 3 }
    """)
    assert policy_of_text.column_policies(["spend", "visits", "age"], ["country", "device"], ()) == [
        Column("model", None, "iqr", factor=2, scaling="log1p"),
        Column("constant", -1, "quantile", (0, 0.9), 2, "robust"),
        Column("median", None, "iqr", factor=2, scaling="robust"),
    ]
    assert (policy_of_text.categories("country"), policy_of_text.categories("device")) == (3, 5)


def test_the_policy_of_the_project_is_valid_and_imputes_no_price():
    project_policy = policy.load_policy(str(HOME / "conf" / "policy.toml"))
    project_policy.column_policies(catalogue.VECTOR, [attribute.name for attribute in catalogue.ATTRIBUTES], ())
    assert project_policy.clean == {"products.price": "null"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[feature]", "unknown key 'feature'; known: features, selection, clean"),
        ("[features.orders]", "unknown key 'features.orders'; known: customers"),
        ("[features.customers]\nspend = 3", "features.customers.spend = 3 must be a table"),
        ('[features.customers]\nspend = "medain"', "features.customers.spend.missing = 'medain' must be one of drop, mean,"),
        ('[features.customers]\nspend = "interpolate"', "features.customers.spend.missing = 'interpolate' must be one of"),
        ("[features.customers]\nspend = { fill = 1 }", "unknown key 'features.customers.spend.fill'; known: missing,"),
        ("[features.customers]\nspend = { shares = [0.9, 0.1] }", "spend.shares = [0.9, 0.1] must be two shares such as"),
        ("[features.customers]\nspend = { factor = true }", "spend.factor = True must be a number above 0"),
        ('[features.customers]\nspend = { scaling = "common" }', "spend.scaling = 'common' must be one of auto, standard,"),
        ("[features.customers]\ncountry = { categories = 0 }", "country.categories = 0 must be a whole number from 1 to 100"),
        ('[features.customers]\nspend = "constant"', "spend: missing = 'constant' needs a value"),
        ('[features.customers]\nspent = "mean"', "features.customers.spent: no such column; known: country, spend"),
        ('[features.customers]\ncountry = "mean"', "country.missing: country is an attribute and has no such key"),
        ("[features.customers]\nspend = { categories = 2 }", "spend.categories: spend is a number and has no such key"),
        ("[selection]\nconstant_share = 0.2", "selection.constant_share = 0.2 must be a share above 0.5"),
        ('[clean.products]\nprice = "median"', "clean.products.price.missing = 'median' must be one of null, drop, inter"),
        ('[clean.products]\nname = "drop"', "unknown key 'clean.products.name'; known: price"),
        ('[clean.orders]\nrate = "mean"', "unknown key 'clean.orders'; known: products"),
        ("[selection", "Expected ']' at the end of a table declaration"),
    ],
)
def test_a_wrong_entry_is_one_line_with_file_and_key(load, text, words):
    with pytest.raises(UserError) as raised:
        load(text).column_policies(["spend"], ["country"], ())
    assert "policy.toml: " in str(raised.value)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_named():
    with pytest.raises(UserError, match=r"policy: none.toml cannot be read"):
        policy.load_policy("none.toml")


def test_a_model_keeps_the_hash_of_the_text_and_the_treatment_of_each_column(load):
    text = "[features.customers]\ndefault = { missing = 'mean' }"
    policy_of_text = load(text)
    record = policy_of_text.to_record(
        dict(zip(["spend"], policy_of_text.column_policies(["spend"], [], ()), strict=True)), ["country"]
    )
    assert record["columns"]["spend"]["missing"] == tomllib.loads(text)["features"]["customers"]["default"]["missing"]
    assert record["columns"]["country"] == {"categories": 8}
    assert load(text + " ").sha256 != record["sha256"]
