"""conf/activation.toml: what it declares, and what it refuses with the key and the reason."""

import pytest

from jobs.config import activation
from jobs.config.settings import HOME
from jobs.errors import UserError

THRESHOLD = '[[threshold]]\nname = "leaving"\ncolumn = "p_alive"\nbelow = 0.5\n'
WEBHOOK = '[[webhook]]\nname = "crm"\naddress = "http://localhost:80/x"\nsecret_variable = "CRM_SECRET"\n'


@pytest.fixture
def load(tmp_path):
    def load_text(text: str) -> activation.Activation:
        (tmp_path / "activation.toml").write_text(text)
        return activation.load_activation(str(tmp_path / "activation.toml"))

    return load_text


def test_the_file_of_the_project_declares_nothing():
    assert activation.load_activation(str(HOME / "conf" / "activation.toml")) == activation.Activation()


def test_the_examples_in_the_file_of_the_project_are_valid(load):
    lines = (HOME / "conf" / "activation.toml").read_text().splitlines()
    examples = [line.removeprefix("# ") for line in lines if line.startswith(("# [[", "# name", "# address")) or " = " in line]

    declared = load("\n".join(examples))

    assert [threshold.name for threshold in declared.thresholds] == ["leaving", "churning"]
    assert declared.webhooks == (activation.Webhook("crm", "http://localhost:8000/segments", "CRM_WEBHOOK_SECRET",
                                                    segments=(1, 4), thresholds=("leaving",)),)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[hook]]", "unknown key 'hook'; known: threshold, webhook"),
        ("[webhook]\nname = 'crm'", "write [[webhook]] with two brackets"),
        (THRESHOLD + THRESHOLD, "two [[threshold]] are named leaving"),
        (THRESHOLD.replace("leaving", "a b"), "name = 'a b' must be letters"),
        (THRESHOLD + "above = 0.5", "write above or below, and not both"),
        (THRESHOLD.replace("column", "outcome") + 'column = "p_alive"', "write column or outcome, and not both"),
        (THRESHOLD.replace("p_alive", "age"), "column = 'age' must be one of p_alive, expected_orders_30d"),
        (THRESHOLD.replace("0.5", "nan"), "below = nan must be a number"),
        (WEBHOOK + "retries = 3", "webhook crm: unknown key 'retries'; known: name, address"),
        (WEBHOOK.replace("localhost", "crm.example"), "address must be an https address without a password"),
        (WEBHOOK.replace("http://", "https://me:secret@"), "address must be an https address without a password"),
        (WEBHOOK.replace("http:", "file:"), "address must be an https address"),
        (WEBHOOK.replace("CRM_SECRET", "SHOAL_CRM"), "the name of an environment variable that does not begin with SHOAL_"),
        (WEBHOOK.replace("secret_variable", "#"), "webhook crm: secret_variable is missing"),
        (WEBHOOK + 'events = ["opened"]', "events = ['opened'] must be a list of segment_entered"),
        (WEBHOOK + "segments = []", "segments = [] must be a list of segment numbers"),
        (WEBHOOK + 'thresholds = ["rich"]', "there is no [[threshold]] rich; known: none"),
        (WEBHOOK + "batch_size = 0", "batch_size = 0 must be a whole number from 1 to 10000"),
        ("threshold = ", "activation.toml: Invalid value"),
    ],
)
def test_what_is_wrong_is_named(load, text, message):
    with pytest.raises(UserError) as raised:
        load(text)
    assert message in str(raised.value)
    assert "secret@" not in str(raised.value)


@pytest.mark.parametrize(("secret", "message"), [("", "is not set"), ("short", "has 5 characters, and must have at least 16")])
def test_a_missing_or_short_secret_is_refused_and_not_shown(load, secret, message):
    (webhook,) = load(WEBHOOK).webhooks
    with pytest.raises(UserError, match=rf"webhook crm: its secret, the variable CRM_SECRET, {message}"):
        webhook.read_secret({"CRM_SECRET": secret})
