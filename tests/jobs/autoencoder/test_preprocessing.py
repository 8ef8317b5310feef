import numpy as np
import pyarrow as pa
import pytest
import torch

from jobs.autoencoder import imputation, preprocessing, scaling
from jobs.config.policy import SCALING, Column, Selection

ALL = Selection(constant_share=1.0, duplicate_correlation=1.0)


def fit(matrix, columns=None, selection=ALL, texts=None, most=8):
    """Preprocessing of features a, b, ... and, with `texts`, of the attribute `land`."""
    matrix = np.asarray(matrix, dtype=np.float32)
    names = list("abcdefghij"[: matrix.shape[1]])
    categories = {} if texts is None else {"land": preprocessing.frequent(pa.array(texts), most)}
    coded = preprocessing.codes([pa.array(texts)] if texts else [], list(categories.values()), len(matrix))
    return preprocessing.fit(matrix, coded, names, columns or [Column()] * len(names), categories, selection, seed=4)


def applied(fitted, matrix, coded=None):
    """The network's columns of customers, by name."""
    matrix = np.asarray(matrix, dtype=np.float32)
    coded = np.empty((len(matrix), 0), np.int64) if coded is None else coded
    columns = preprocessing.apply(preprocessing.Preprocess(fitted.numbers), matrix, coded)
    return dict(zip(fitted.names, columns.numpy().T, strict=True))


def test_missing_is_the_median_outliers_are_pulled_in_and_skewed_features_are_logged():
    random = np.random.default_rng(3)
    column = random.lognormal(3, 1.5, 2000)
    plain = random.normal(5, 2, 2000)
    plain[::10] = np.nan
    plain[1] = 1e9
    flag = (random.random(2000) < 0.1).astype(float)

    numbers = fit(np.column_stack([column, plain, flag])).numbers

    assert numbers.fill[1] == pytest.approx(5, abs=0.2)
    assert numbers.high[1] == pytest.approx(10.3, abs=0.5)
    assert numbers.scale[1] == pytest.approx(2 * 0.95, abs=0.1)
    assert numbers.mean[0] == pytest.approx(np.log1p(column).mean(), abs=0.02)


def shapes() -> dict[str, tuple[np.ndarray, str]]:
    """Columns (5000) and the method that each is to have."""
    random = np.random.default_rng(7)
    return {
        "bell": (random.normal(50, 10, 5000), "standard"),
        "yes or no": (random.random(5000) < 0.3, "standard"),
        "rather no": (random.random(5000) < 0.2, "standard"),
        "a trend of few": (np.where(random.random(5000) < 0.2, random.normal(size=5000), 0), "standard"),
        "share of few": (random.uniform(0, 0.2, 5000), "standard"),
        "share of all": (random.uniform(0, 1, 5000), "range"),
        "heavy tails": (random.normal(0, 1, 5000) * np.where(random.random(5000) < 0.05, 5, 1), "robust"),
        "heavier tails": (np.tan(np.pi * (np.arange(5000) / 5000 - 0.4999)), "quantile"),
        "money": (random.lognormal(3, 1.5, 5000), "log1p"),
        "rare counts": (np.where(random.random(5000) < 0.1, random.geometric(0.1, 5000), 0), "log1p"),
        "money in millions, left": (1e7 - random.lognormal(11, 1.5, 5000), "quantile"),
        "rates too small for log1p": (random.lognormal(-8, 1.5, 5000), "quantile"),
    }


SHAPES = shapes()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_feature_is_scaled_by_its_shape_to_a_variance_of_about_one(shape):
    column, method = SHAPES[shape]
    fitted = fit(column[:, None])
    assert fitted.scaling == [method]
    scaled = fitted.inputs[:, 0].double().numpy()
    if method == "robust":  # the middle half is as wide as that of a normal distribution, the tails come on top
        quartiles = np.quantile(scaled, [0.25, 0.5, 0.75])
        assert quartiles - quartiles[1] == pytest.approx([-0.674, 0, 0.674], abs=0.05)
        assert quartiles[1] == pytest.approx(0, abs=1e-5)
        assert 1 < scaled.var() < 2
    else:
        assert scaled.mean() == pytest.approx(0, abs=0.02)
        assert scaled.var() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("method", SCALING[1:])
def test_the_policy_overrules_the_shape(method):
    fitted = fit(SHAPES["money"][0][:, None], [Column(scaling=method)])
    assert fitted.scaling == [method]
    low, high = fitted.numbers.low[0], fitted.numbers.high[0]
    values = np.array([low, 20, 60, high])
    bent = {"quantile": [0, 0.5, 0.767, 1], "log1p": np.log1p(values)}.get(method, values)  # half of them have less than 20
    scaled = applied(fitted, values[:, None])["a"]
    assert np.diff(scaled) / np.ptp(scaled) == pytest.approx(np.diff(bent) / np.ptp(bent), abs=0.02)


@pytest.mark.parametrize("method", SCALING)
def test_a_higher_value_never_gets_less(method):
    for column, _ in SHAPES.values():
        fitted = fit(column[:, None], [Column(scaling=method)])
        random = np.random.default_rng(1)
        values = np.sort(np.concatenate([column, random.normal(size=5000) * 10.0 ** random.integers(-9, 30, 5000)]))
        scaled = applied(fitted, values[:, None])["a"]
        assert np.diff(scaled).min() >= -1e-6
        assert len(np.unique(scaled)) > len(np.unique(column)) / 3


@pytest.mark.parametrize("method", SCALING)
def test_float32_scales_as_float64_does_and_the_limits_are_the_scaled_limits(method):
    for column, _ in SHAPES.values():
        fitted = fit(column[:, None], [Column(scaling=method)])
        known = column.astype(np.float32).astype(np.float64)
        low, high = np.quantile(known, [0.005, 0.995])
        exact = scaling.fit(np.clip(known, low, high), low, high, method)
        values = np.concatenate([[low, high, -1e30, 1e30], known])
        scaled = applied(fitted, values[:, None])["a"]
        limits = exact.of(np.array([low, high]))
        largest = max(exact.method == "log1p", *np.abs(limits * exact.scale + exact.mean))  # before it is scaled: log(1 + x)
        resolution = 2.0**-22 * largest / exact.scale
        np.testing.assert_allclose(scaled, exact.of(np.clip(values, low, high)), rtol=1e-5, atol=1e-5 + resolution)
        assert [fitted.numbers.scaled_low[0], fitted.numbers.scaled_high[0]] == pytest.approx(limits, abs=1e-5)


@pytest.mark.parametrize("method", SCALING)
def test_columns_with_hardly_any_difference_do_no_harm(method):
    n = 1000
    number = np.arange(n)
    columns = [np.full(n, 1.7e9), np.full(n, np.nan), number < 30, np.where(number < 900, 0, number), number == 0]
    with np.errstate(divide="raise", invalid="raise"):
        fitted = fit(np.column_stack(columns), [Column(scaling=method)] * 5)
    assert fitted.inputs.abs().max() < 10
    assert fitted.numbers.scale[[0, 1]].tolist() == [1, 1]
    odd = applied(fitted, [[value] * 5 for value in (np.nan, np.inf, -1e38, 0, 1e38)])
    assert all(np.isfinite(column).all() for column in odd.values())


@pytest.fixture
def readings():
    """2000 x 10 readings from 0 to 255, the later ones spread less; two hardly move."""
    reach = np.array([255] * 6 + [200, 180, 20, 5])
    return np.clip(np.random.default_rng(3).normal(0.5, 0.5, (2000, 10)), 0, 1) * reach


def test_columns_that_share_a_unit_are_divided_by_one_spread(readings):
    fitted = fit(readings)
    assert fitted.scaling == ["common"] * 10
    spreads = fitted.inputs.std(dim=0, correction=0).numpy()
    assert spreads / spreads[0] == pytest.approx(readings.std(axis=0) / readings[:, 0].std(), rel=0.01)
    assert (spreads**2).mean() == pytest.approx(1, rel=1e-4)
    assert fitted.inputs.mean(dim=0).abs().max() < 1e-5
    assert fitted.numbers.scaled_high == pytest.approx(fitted.inputs.max(dim=0).values.numpy(), rel=1e-4)


def test_a_column_the_policy_scales_and_one_that_never_differs_stay_out_of_the_common_scale(readings):
    readings[:, 0] *= 1000
    readings[:, 9] = 7
    fitted = fit(readings, [Column(scaling="standard"), *[Column()] * 9])
    assert fitted.scaling == ["standard", *["common"] * 8, "standard"]
    assert fitted.inputs[:, 0].var() == pytest.approx(1, rel=1e-2)
    assert fitted.inputs[:, 1:9].var(dim=0).mean() == pytest.approx(1, rel=1e-2)


@pytest.mark.parametrize("change", ["seven columns", "other lower limits", "other ranges"])
def test_columns_of_a_table_share_no_unit(readings, change):
    readings = {
        "seven columns": readings[:, :7],
        "other lower limits": readings + 10 * np.arange(10),
        "other ranges": readings * 3.0 ** -np.arange(10),
    }[change]
    assert "common" not in fit(readings).scaling


@pytest.mark.parametrize(
    ("column", "fill"),
    [
        (Column("median"), 3.0),
        (Column("mean"), 22.0),
        (Column("zero"), 0.0),
        (Column("constant", value=7.0), 7.0),
        (Column("null"), 3.0),
        (Column("drop"), 3.0),
    ],
)
def test_each_method_fills_in_its_number(column, fill):
    values = np.array([[1.0], [2.0], [3.0], [4.0], [100.0], [np.nan]])
    assert fit(values, [Column(column.missing, column.value, outliers="none")]).numbers.fill[0] == pytest.approx(fill)


@pytest.mark.parametrize(
    ("column", "low", "high"),
    [
        (Column(outliers="quantile", shares=(0.1, 0.9)), 10, 90),
        (Column(outliers="iqr", factor=0.5), 0, 100),
        (Column(outliers="iqr", factor=0.2), 15, 85),
        (Column(outliers="none"), 0, 100),
    ],
)
def test_each_treatment_of_outliers_has_its_limits(column, low, high):
    numbers = fit(np.arange(101.0)[:, None], [column]).numbers
    assert (numbers.low[0], numbers.high[0]) == (low, high)


def test_equal_quartiles_set_no_limits():
    values = np.array([0.0] * 90 + [5.0] * 10)[:, None]
    assert fit(values, [Column(outliers="iqr")]).numbers.high[0] == 5.0


def test_null_adds_a_column_that_says_so():
    values = np.array([[1.0, 5.0], [2.0, 7.0], [np.nan, 6.0], [3.0, 9.0]])
    fitted = fit(values, [Column("null"), Column()])
    assert fitted.names == ["a", "b", "a missing"]
    flag = applied(fitted, [[1.0, 5.0], [np.nan, 5.0], [np.inf, 5.0]])["a missing"]
    assert flag == pytest.approx([-(0.25**0.5 / 0.75**0.5), 3**0.5, 3**0.5])


def test_frequent_categories_get_a_column_the_others_share_one_and_missing_is_none():
    texts = ["GB"] * 5 + ["DE"] * 3 + ["FR", "IT", None, ""]
    fitted = fit(np.arange(12.0)[:, None], texts=texts, most=2)
    assert fitted.names == ["a", "land = GB", "land = DE", "land = other"]
    coded = preprocessing.codes([pa.array(["DE", "FR", "Atlantis", None, ""])], [["GB", "DE"]], 5)
    assert coded.ravel().tolist() == [1, 2, 2, -1, -1]
    columns = applied(fitted, np.zeros((5, 1)), coded)
    highest = [np.argmax([columns[name][row] for name in fitted.names[1:]]) for row in range(3)]
    assert highest == [1, 2, 2]
    assert all(columns[name][3] == columns[name][4] < 0 for name in fitted.names[1:])
    total = sum(column.var() for column in fitted.inputs[:, 1:].numpy().T)
    assert total == pytest.approx(1, rel=1e-4), "an attribute weighs as much as one feature"


def test_near_constant_and_duplicate_columns_are_left_out_with_the_reason():
    random = np.random.default_rng(2)
    base = random.normal(size=400)
    rare = np.where(np.arange(400) < 2, 1.0, 0.0)
    matrix = np.column_stack([base, rare, 3 - 2 * base, random.normal(size=400), np.full(400, 1.7e9), np.full(400, np.nan)])
    fitted = fit(matrix, selection=Selection(constant_share=0.99, duplicate_correlation=0.98))
    assert fitted.names == ["a", "d"]
    found = {one["name"]: one for one in fitted.left_out}
    assert found["b"] == {"name": "b", "reason": "constant", "share": pytest.approx(0.995)}
    assert found["c"] == {"name": "c", "reason": "duplicate", "of": "a", "r": pytest.approx(-1, abs=0.01)}
    assert {found[name]["reason"] for name in "ef"} == {"constant"}
    assert torch.isfinite(fitted.inputs).all()


@pytest.fixture
def related():
    """1000 x 4: c is a + b and a little noise, b is also a little known by d; a fifth of b and c is missing."""
    random = np.random.default_rng(6)
    a, b, noise, other = random.normal(size=(4, 1000))
    truth = np.column_stack([a, b, a + b + 0.1 * noise, b + 0.3 * other])
    holed = truth.copy()
    holed[random.random(1000) < 0.2, 1] = np.nan
    holed[random.random(1000) < 0.2, 2] = np.nan
    return truth, holed


def imputation_error(fitted, truth, holed, column):
    """Mean squared error of what is imputed, in standard deviations."""
    missing = np.isnan(holed[:, column])
    got = applied(fitted, holed)["abcd"[column]][missing]
    wanted = (truth[missing, column] - fitted.numbers.mean[column]) / fitted.numbers.scale[column]
    return np.mean((got - wanted) ** 2)


def test_regression_beats_the_median_and_chained_equations_beat_one_regression(related):
    errors = {
        method: imputation_error(fit(related[1], [Column(), Column(method), Column(method), Column()]), *related, column=2)
        for method in ("median", "model", "multiple")
    }
    assert errors["multiple"] < 0.8 * errors["model"] < 0.8 * 0.5 * errors["median"]


def test_multiple_imputations_differ_where_a_value_is_missing_and_nowhere_else(related):
    _, holed = related
    columns = [Column(), Column("multiple"), Column("multiple"), Column()]
    fitted = fit(holed, columns)
    assert len(fitted.draws) == imputation.DRAWS
    spread = torch.stack(fitted.draws).std(dim=0).numpy()
    assert (spread[np.isnan(holed)] > 0).mean() > 0.95  # all but those at a limit
    assert spread[~np.isnan(holed)].max() < 1e-6
    beside = fit(holed, [Column(), Column("multiple"), Column("model"), Column()])
    assert all(torch.allclose(draw[:, 2], beside.inputs[:, 2], atol=1e-5) for draw in beside.draws), "a model has one answer"
    again = fit(holed, columns)
    assert all(torch.equal(one, other) for one, other in zip(fitted.draws, again.draws, strict=True))


def test_what_a_regression_imputes_stays_within_the_limits(related):
    fitted = fit(related[1], [Column(), Column(), Column("model", shares=(0.2, 0.8)), Column()])
    far = applied(fitted, [[1e6, 1e6, np.nan, 0.0]])["c"]
    assert far == pytest.approx(fitted.numbers.scaled_high[2])
