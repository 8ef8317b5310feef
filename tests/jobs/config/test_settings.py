"""Settings: the file, the variables that override it, and the values that are refused."""

import pytest

from jobs.config.settings import HOME, load_settings, read_secret
from jobs.errors import UserError


def test_a_variable_wins_over_the_file_and_has_its_type():
    assert load_settings({}).clean.late_days == 3
    assert load_settings({"SHOAL_CLEAN__LATE_DAYS": "5"}).clean.late_days == 5


def test_roots_are_absolute_unless_they_are_uris():
    settings = load_settings({"SHOAL_LAKE": "var/here", "SHOAL_MODELS": "s3://shop/models"})
    assert settings.lake == str(HOME / "var/here")
    assert settings.models == "s3://shop/models"
    assert settings.train.tensorboard == ""
    assert load_settings({"SHOAL_TRAIN__TENSORBOARD": "var/curves"}).train.tensorboard == str(HOME / "var/curves")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"SHOAL_LAEK": "x"}, "unknown key 'laek'"),
        ({"SHOAL_CLEAN__LATE": "5"}, "unknown key 'clean.late'"),
        ({"SHOAL_CLEAN__LATE_DAYS": "three"}, "clean.late_days = 'three'"),
        ({"SHOAL_CLEAN__LATE_DAYS": "-1"}, "must be at least 0"),
        ({"SHOAL_TRAIN__NOISE": "1.5"}, "must be at least 0 and at most 0.9"),
        ({"SHOAL_TRAIN__NOISE": "nan"}, "train.noise = 'nan'"),
        ({"SHOAL_TRAIN__HIDDEN": "64,0"}, "must be at least 1"),
        ({"SHOAL_CLEAN__FIRST_DAY": "soon"}, "clean.first_day = 'soon'"),
        ({"SHOAL_BUSINESS_TIME_ZONE": "Mars/Phobos"}, "= 'Mars/Phobos' ("),
        ({"SHOAL_BUSINESS_TIME_ZONE": "America"}, "must be a time zone, as in Europe/Berlin"),
        ({"SHOAL_BUSINESS_TIME_ZONE": "localtime"}, "must be a time zone"),
        ({"SHOAL_BUSINESS_TIME_ZONE": ""}, "must be a time zone"),
        ({"SHOAL_CLEAN": "5"}, "clean = '5'"),
        ({"SHOAL_LAKE__X": "5"}, "variable SHOAL_LAKE__X: lake is a value"),
        ({"SHOAL_ENV": "nowhere"}, "nowhere.toml does not exist"),
        ({"SHOAL_ENV": "prod"}, "lacks source"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(environment, message):
    with pytest.raises(UserError, match=r"^settings: ") as error:
        load_settings(environment)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_secret_comes_from_the_environment_or_is_an_error():
    assert read_secret({"SHOAL_SECRET": "sixteen letters!"}) == "sixteen letters!"
    with pytest.raises(UserError, match="has 15 characters, and must have at least 16"):
        read_secret({"SHOAL_SECRET": "fifteen letters"})
    with pytest.raises(UserError, match="SHOAL_SECRET is not set"):
        read_secret({})
