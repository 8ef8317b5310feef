import numpy as np
import pyarrow as pa
import pytest
import torch

from jobs.autoencoder import imputation, preprocessing, scaling
from jobs.config.policy import SCALING, Column, Selection

ALL_COLUMNS = Selection(constant_share=1.0, duplicate_correlation=1.0)


def fit(features, columns=None, selection=ALL_COLUMNS, texts=None, n_categories=8):
    """Fit the preprocessing of features a, b, ... and, with `texts`, of the attribute `land`."""
    features = np.asarray(features, dtype=np.float32)
    names = list("abcdefghij"[: features.shape[1]])
    categories = {} if texts is None else {"land": preprocessing.most_frequent_categories(pa.array(texts), n_categories)}
    codes = preprocessing.encode_categories([pa.array(texts)] if texts else [], list(categories.values()), len(features))
    columns = columns or [Column()] * len(names)
    return preprocessing.fit_preprocessing(features, codes, names, columns, categories, selection, seed=4)


def preprocess(fitted, features, codes=None):
    """Return the inputs of customers by name."""
    features = np.asarray(features, dtype=np.float32)
    codes = np.empty((len(features), 0), np.int64) if codes is None else codes
    inputs = preprocessing.preprocess_customers(preprocessing.Preprocessor(fitted.parameters), features, codes)
    return dict(zip(fitted.input_names, inputs.numpy().T, strict=True))


def test_missing_values_get_the_median_outliers_are_winsorised_and_skewed_features_get_a_logarithm():
    random = np.random.default_rng(3)
    skewed = random.lognormal(3, 1.5, 2000)
    normal = random.normal(5, 2, 2000)
    normal[::10] = np.nan
    normal[1] = 1e9
    flag = (random.random(2000) < 0.1).astype(float)

    parameters = fit(np.column_stack([skewed, normal, flag])).parameters

    assert parameters.fill[1] == pytest.approx(5, abs=0.2)
    assert parameters.high[1] == pytest.approx(10.3, abs=0.5)
    assert parameters.scale[1] == pytest.approx(2 * 0.95, abs=0.1)
    assert parameters.mean[0] == pytest.approx(np.log1p(skewed).mean(), abs=0.02)


def shapes() -> dict[str, tuple[np.ndarray, str]]:
    """Return columns (5000,) by name, and the scaling method expected for each."""
    random = np.random.default_rng(7)
    return {
        "normal": (random.normal(50, 10, 5000), "standard"),
        "binary": (random.random(5000) < 0.3, "standard"),
        "binary, mostly 0": (random.random(5000) < 0.2, "standard"),
        "zero for most, else normal": (np.where(random.random(5000) < 0.2, random.normal(size=5000), 0), "standard"),
        "share up to a fifth": (random.uniform(0, 0.2, 5000), "standard"),
        "share up to one": (random.uniform(0, 1, 5000), "range"),
        "heavy tails": (random.normal(0, 1, 5000) * np.where(random.random(5000) < 0.05, 5, 1), "robust"),
        "heavier tails": (np.tan(np.pi * (np.arange(5000) / 5000 - 0.4999)), "quantile"),
        "money": (random.lognormal(3, 1.5, 5000), "log1p"),
        "rare counts": (np.where(random.random(5000) < 0.1, random.geometric(0.1, 5000), 0), "log1p"),
        "money in millions, skewed to the left": (1e7 - random.lognormal(11, 1.5, 5000), "quantile"),
        "rates too small for log1p": (random.lognormal(-8, 1.5, 5000), "quantile"),
    }


SHAPES = shapes()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_feature_is_scaled_by_its_shape_to_a_variance_of_about_one(shape):
    column, method = SHAPES[shape]
    fitted = fit(column[:, None])
    assert fitted.scaling_methods == [method]
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
def test_the_policy_overrides_the_shape(method):
    fitted = fit(SHAPES["money"][0][:, None], [Column(scaling=method)])
    assert fitted.scaling_methods == [method]
    low, high = fitted.parameters.low[0], fitted.parameters.high[0]
    values = np.array([low, 20, 60, high])
    ranks = [0, 0.5, 0.767, 1]  # half of the customers have less than 20
    expected = {"quantile": ranks, "log1p": np.log1p(values)}.get(method, values)
    scaled = preprocess(fitted, values[:, None])["a"]
    assert np.diff(scaled) / np.ptp(scaled) == pytest.approx(np.diff(expected) / np.ptp(expected), abs=0.02)


@pytest.mark.parametrize("method", SCALING)
def test_scaling_keeps_the_order_of_values(method):
    for column, _ in SHAPES.values():
        fitted = fit(column[:, None], [Column(scaling=method)])
        random = np.random.default_rng(1)
        values = np.sort(np.concatenate([column, random.normal(size=5000) * 10.0 ** random.integers(-9, 30, 5000)]))
        scaled = preprocess(fitted, values[:, None])["a"]
        assert np.diff(scaled).min() >= -1e-6
        assert len(np.unique(scaled)) > len(np.unique(column)) / 3


@pytest.mark.parametrize("method", SCALING)
def test_float32_scales_as_float64_does_and_the_limits_are_the_scaled_limits(method):
    for column, _ in SHAPES.values():
        fitted = fit(column[:, None], [Column(scaling=method)])
        values32 = column.astype(np.float32).astype(np.float64)
        low, high = np.quantile(values32, [0.005, 0.995])
        exact = scaling.fit_scaling(np.clip(values32, low, high), low, high, method)
        values = np.concatenate([[low, high, -1e30, 1e30], values32])
        scaled = preprocess(fitted, values[:, None])["a"]
        limits = exact.scale_values(np.array([low, high]))
        largest = max(exact.method == "log1p", *np.abs(limits * exact.scale + exact.mean))  # before it is scaled: log(1 + x)
        resolution = 2.0**-22 * largest / exact.scale
        np.testing.assert_allclose(scaled, exact.scale_values(np.clip(values, low, high)), rtol=1e-5, atol=1e-5 + resolution)
        assert [fitted.parameters.scaled_low[0], fitted.parameters.scaled_high[0]] == pytest.approx(limits, abs=1e-5)


@pytest.mark.parametrize("method", SCALING)
def test_near_constant_columns_give_finite_inputs(method):
    n = 1000
    number = np.arange(n)
    columns = [np.full(n, 1.7e9), np.full(n, np.nan), number < 30, np.where(number < 900, 0, number), number == 0]
    with np.errstate(divide="raise", invalid="raise"):
        fitted = fit(np.column_stack(columns), [Column(scaling=method)] * 5)
    assert fitted.inputs.abs().max() < 10
    assert fitted.parameters.scale[[0, 1]].tolist() == [1, 1]
    extreme = preprocess(fitted, [[value] * 5 for value in (np.nan, np.inf, -1e38, 0, 1e38)])
    assert all(np.isfinite(column).all() for column in extreme.values())


@pytest.fixture
def readings():
    """Readings (2000, 10) from 0 up to 255; the last four have smaller ranges, two of them much smaller."""
    ranges = np.array([255] * 6 + [200, 180, 20, 5])
    return np.clip(np.random.default_rng(3).normal(0.5, 0.5, (2000, 10)), 0, 1) * ranges


def test_columns_that_share_a_unit_get_a_common_scale(readings):
    fitted = fit(readings)
    assert fitted.scaling_methods == ["common"] * 10
    deviations = fitted.inputs.std(dim=0, correction=0).numpy()
    assert deviations / deviations[0] == pytest.approx(readings.std(axis=0) / readings[:, 0].std(), rel=0.01)
    assert (deviations**2).mean() == pytest.approx(1, rel=1e-4)
    assert fitted.inputs.mean(dim=0).abs().max() < 1e-5
    assert fitted.parameters.scaled_high == pytest.approx(fitted.inputs.max(dim=0).values.numpy(), rel=1e-4)


def test_a_constant_column_and_one_that_the_policy_scales_do_not_get_the_common_scale(readings):
    readings[:, 0] *= 1000
    readings[:, 9] = 7
    fitted = fit(readings, [Column(scaling="standard"), *[Column()] * 9])
    assert fitted.scaling_methods == ["standard", *["common"] * 8, "standard"]
    assert fitted.inputs[:, 0].var() == pytest.approx(1, rel=1e-2)
    assert fitted.inputs[:, 1:9].var(dim=0).mean() == pytest.approx(1, rel=1e-2)


@pytest.mark.parametrize("change", ["seven columns", "other lower limits", "other ranges"])
def test_other_columns_do_not_share_a_unit(readings, change):
    readings = {
        "seven columns": readings[:, :7],
        "other lower limits": readings + 10 * np.arange(10),
        "other ranges": readings * 3.0 ** -np.arange(10),
    }[change]
    assert "common" not in fit(readings).scaling_methods


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
def test_each_method_has_its_fill_value(column, fill):
    values = np.array([[1.0], [2.0], [3.0], [4.0], [100.0], [np.nan]])
    assert fit(values, [Column(column.missing, column.value, outliers="none")]).parameters.fill[0] == pytest.approx(fill)


@pytest.mark.parametrize(
    ("column", "low", "high"),
    [
        (Column(outliers="quantile", shares=(0.1, 0.9)), 10, 90),
        (Column(outliers="iqr", factor=0.5), 0, 100),
        (Column(outliers="iqr", factor=0.2), 15, 85),
        (Column(outliers="none"), 0, 100),
    ],
)
def test_each_outlier_method_has_its_limits(column, low, high):
    parameters = fit(np.arange(101.0)[:, None], [column]).parameters
    assert (parameters.low[0], parameters.high[0]) == (low, high)


def test_equal_quartiles_set_no_limits():
    values = np.array([0.0] * 90 + [5.0] * 10)[:, None]
    assert fit(values, [Column(outliers="iqr")]).parameters.high[0] == 5.0


def test_null_adds_a_flag_column():
    values = np.array([[1.0, 5.0], [2.0, 7.0], [np.nan, 6.0], [3.0, 9.0]])
    fitted = fit(values, [Column("null"), Column()])
    assert fitted.input_names == ["a", "b", "a missing"]
    flag = preprocess(fitted, [[1.0, 5.0], [np.nan, 5.0], [np.inf, 5.0]])["a missing"]
    assert flag == pytest.approx([-(0.25**0.5 / 0.75**0.5), 3**0.5, 3**0.5])


def test_frequent_categories_get_a_column_each_the_others_share_one_and_a_missing_one_has_none():
    texts = ["GB"] * 5 + ["DE"] * 3 + ["FR", "IT", None, ""]
    fitted = fit(np.arange(12.0)[:, None], texts=texts, n_categories=2)
    assert fitted.input_names == ["a", "land = GB", "land = DE", "land = other"]
    codes = preprocessing.encode_categories([pa.array(["DE", "FR", "Atlantis", None, ""])], [["GB", "DE"]], 5)
    assert codes.ravel().tolist() == [1, 2, 2, -1, -1]
    inputs = preprocess(fitted, np.zeros((5, 1)), codes)
    largest = [np.argmax([inputs[name][row] for name in fitted.input_names[1:]]) for row in range(3)]
    assert largest == [1, 2, 2]
    assert all(inputs[name][3] == inputs[name][4] < 0 for name in fitted.input_names[1:])
    variance = sum(column.var() for column in fitted.inputs[:, 1:].numpy().T)
    assert variance == pytest.approx(1, rel=1e-4), "an attribute weighs as much as one feature"


def test_near_constant_and_duplicate_columns_are_left_out_with_the_reason():
    random = np.random.default_rng(2)
    base = random.normal(size=400)
    rare = np.where(np.arange(400) < 2, 1.0, 0.0)
    features = np.column_stack([base, rare, 3 - 2 * base, random.normal(size=400), np.full(400, 1.7e9), np.full(400, np.nan)])
    fitted = fit(features, selection=Selection(constant_share=0.99, duplicate_correlation=0.98))
    assert fitted.input_names == ["a", "d"]
    left_out = {column["name"]: column for column in fitted.left_out}
    assert left_out["b"] == {"name": "b", "reason": "constant", "share": pytest.approx(0.995)}
    assert left_out["c"] == {"name": "c", "reason": "duplicate", "of": "a", "r": pytest.approx(-1, abs=0.01)}
    assert {left_out[name]["reason"] for name in "ef"} == {"constant"}
    assert torch.isfinite(fitted.inputs).all()


@pytest.fixture
def related():
    """Features (1000, 4), complete and with missing values: c is a + b plus noise, d is b plus noise.

    A fifth of b and of c is missing.
    """
    random = np.random.default_rng(6)
    a, b, c_noise, d_noise = random.normal(size=(4, 1000))
    complete = np.column_stack([a, b, a + b + 0.1 * c_noise, b + 0.3 * d_noise])
    incomplete = complete.copy()
    incomplete[random.random(1000) < 0.2, 1] = np.nan
    incomplete[random.random(1000) < 0.2, 2] = np.nan
    return complete, incomplete


def imputation_error(fitted, complete, incomplete, column):
    """Return the mean squared error of the imputed values, in standard deviations."""
    missing = np.isnan(incomplete[:, column])
    imputed = preprocess(fitted, incomplete)["abcd"[column]][missing]
    expected = (complete[missing, column] - fitted.parameters.mean[column]) / fitted.parameters.scale[column]
    return np.mean((imputed - expected) ** 2)


def test_regression_beats_the_median_and_chained_equations_beat_a_single_regression(related):
    errors = {
        method: imputation_error(fit(related[1], [Column(), Column(method), Column(method), Column()]), *related, column=2)
        for method in ("median", "model", "multiple")
    }
    assert errors["multiple"] < 0.8 * errors["model"] < 0.8 * 0.5 * errors["median"]


def test_multiple_imputations_differ_where_a_value_is_missing_and_nowhere_else(related):
    _, incomplete = related
    columns = [Column(), Column("multiple"), Column("multiple"), Column()]
    fitted = fit(incomplete, columns)
    assert len(fitted.imputations) == imputation.N_IMPUTATIONS
    deviations = torch.stack(fitted.imputations).std(dim=0).numpy()
    assert (deviations[np.isnan(incomplete)] > 0).mean() > 0.95  # all but those at a limit
    assert deviations[~np.isnan(incomplete)].max() < 1e-6
    single = fit(incomplete, [Column(), Column("multiple"), Column("model"), Column()])
    c = single.inputs[:, 2]
    assert all(torch.allclose(inputs[:, 2], c, atol=1e-5) for inputs in single.imputations), "a single regression has one result"
    refitted = fit(incomplete, columns)
    pairs = zip(fitted.imputations, refitted.imputations, strict=True)
    assert all(torch.equal(inputs, refitted_inputs) for inputs, refitted_inputs in pairs)


def test_imputed_values_stay_within_the_limits(related):
    fitted = fit(related[1], [Column(), Column(), Column("model", shares=(0.2, 0.8)), Column()])
    imputed = preprocess(fitted, [[1e6, 1e6, np.nan, 0.0]])["c"]
    assert imputed == pytest.approx(fitted.parameters.scaled_high[2])
