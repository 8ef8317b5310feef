"""What a training needs of the customers of a day: the fitted preprocessing, and the inputs of each split."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from sklearn.ensemble import IsolationForest
from torch import Tensor

from jobs import catalogue
from jobs.autoencoder import preprocessing
from jobs.autoencoder.array_storage import ArrayStorage
from jobs.autoencoder.customers import Customers, split_customers
from jobs.autoencoder.export import select_verification_rows
from jobs.autoencoder.fitting import set_threads
from jobs.autoencoder.isolation_forest import fit_forest
from jobs.autoencoder.preprocessing import FIT_CUSTOMERS, FittedPreprocessing, PreprocessingParameters, Preprocessor
from jobs.autoencoder.profile import profile_values
from jobs.config.policy import Column, Policy
from jobs.config.settings import Train
from jobs.errors import UserError


@dataclass(frozen=True)
class PreparedCustomers:
    """The customers of a day, and the preprocessing that was fitted on their training split."""

    customers: Customers
    columns: list[Column]  # the policy's treatment of each feature
    rows: dict[str, np.ndarray]  # row numbers by split
    categories: dict[str, list[str]]  # by attribute
    codes: np.ndarray  # (n_customers, n_attributes)
    preprocessing: FittedPreprocessing

    def inputs(self, split: str) -> Tensor:
        """Return the inputs (n_customers, n_inputs) of a split."""
        customers = self.customers
        return preprocessing.preprocess_customers(
            Preprocessor(self.preprocessing.parameters),
            customers.features,
            self.codes,
            self.rows[split],
            customers.storage.allocate,
        )


def prepare_customers(customers: Customers, settings: Train, policy: Policy) -> PreparedCustomers:
    """Fit the preprocessing. Raises UserError where a split is empty or no feature varies between customers."""
    catalogue_names = {*catalogue.VECTOR, *(attribute.name for attribute in catalogue.ATTRIBUTES)}
    columns = policy.column_policies(customers.feature_names, customers.attributes, other_columns=catalogue_names)
    rows = _split_complete_customers(customers, columns)
    fit_rows = rows["train"][:FIT_CUSTOMERS]
    categories = {
        name: preprocessing.most_frequent_categories(texts.take(pa.array(fit_rows)), policy.categories(name))
        for name, texts in customers.attributes.items()
    }
    attributes = list(customers.attributes.values())
    codes = preprocessing.encode_categories(attributes, list(categories.values()), len(customers.ids))
    fitted = preprocessing.fit_preprocessing(
        customers.features[fit_rows],
        codes[fit_rows],
        customers.feature_names,
        columns,
        categories,
        policy.selection,
        settings.seed,
    )
    if not fitted.input_names:
        raise UserError(f"train: features.customers, day {customers.day}: no feature differs between customers; take another day")
    return PreparedCustomers(customers, columns, rows, categories, codes, fitted)


@dataclass(frozen=True)
class TrainingData:
    """All that training, evaluation and export need, without the customers as they were read."""

    parameters: PreprocessingParameters
    forest: IsolationForest
    categories: dict[str, list[str]]  # by attribute
    inputs: dict[str, Tensor]  # (n_customers, n_inputs) by split
    imputations: list[Tensor]  # (n_train, n_inputs) each: the training inputs, which differ in imputed values alone
    storage: ArrayStorage
    test_ids: list[str]
    rows: dict[str, np.ndarray]  # row numbers of the customers as they were read, by split
    verification_rows: tuple[np.ndarray, np.ndarray]  # as select_verification_rows returns them
    meta: dict  # the part of meta.json that describes the customers and their preprocessing


def prepare_training_data(customers: Customers, settings: Train, policy: Policy) -> TrainingData:
    """Fit preprocessing and isolation forest, and return the inputs of each split."""
    set_threads(len(customers.ids) * len(customers.feature_names))
    prepared = prepare_customers(customers, settings, policy)
    fitted = prepared.preprocessing
    meta = _describe_customers(prepared, policy)
    forest = fit_forest(fitted.inputs.numpy(), settings.seed)
    inputs = {split: prepared.inputs(split) for split in prepared.rows}
    return TrainingData(
        parameters=fitted.parameters,
        forest=forest,
        categories=prepared.categories,
        inputs=inputs,
        imputations=fitted.imputations or [inputs["train"]],
        storage=customers.storage,
        test_ids=customers.ids.take(pa.array(prepared.rows["test"])).to_pylist(),
        rows=prepared.rows,
        verification_rows=select_verification_rows(customers),
        meta=meta,
    )


def _describe_customers(prepared: PreparedCustomers, policy: Policy) -> dict:
    customers, fitted = prepared.customers, prepared.preprocessing
    names, fit_rows = customers.feature_names, prepared.rows["train"][:FIT_CUSTOMERS]
    return {
        "day": customers.day.isoformat(),
        "delta_version": customers.delta_version,
        "features": list(names),
        "attributes": {
            name: {"categories": categories} | _category_shares(prepared.codes[fit_rows, index], len(categories))
            for index, (name, categories) in enumerate(prepared.categories.items())
        },
        "inputs": fitted.input_names,
        "left_out": fitted.left_out,
        "scaling": dict(zip(names, fitted.scaling_methods, strict=True)),
        "policy": policy.to_record(dict(zip(names, prepared.columns, strict=True)), customers.attributes),
        "profile": {name: profile_values(customers.features[fit_rows, j]) for j, name in enumerate(names)},
        "customers": {split: len(rows) for split, rows in prepared.rows.items()},
        "dropped": len(customers.ids) - sum(map(len, prepared.rows.values())),
    }


def _split_complete_customers(customers: Customers, columns: list[Column]) -> dict[str, np.ndarray]:
    """Return row numbers by split, without customers who lack a feature for which the policy drops them."""
    must_be_observed = [column.missing == "drop" for column in columns]
    is_complete = np.isfinite(customers.features[:, must_be_observed]).all(axis=1)
    splits = {split: rows[is_complete[rows]] for split, rows in split_customers(customers.hashes).items()}
    for split, rows in splits.items():
        if len(rows) == 0:
            dropped = f" ({(~is_complete).sum()} dropped for a missing value)" if not is_complete.all() else ""
            raise UserError(
                f"train: features.customers, day {customers.day}: none of {len(customers.ids)} customers{dropped} falls into "
                f"the {split} split; take a day with more customers"
            )
    return splits


def _category_shares(codes: np.ndarray, n_categories: int) -> dict:
    """Return the shares of each category and of all other texts among customers with a text, and the share of the others.

    `codes` (n_customers,) are those of one attribute.
    """
    present = codes[codes != preprocessing.MISSING]
    shares = np.bincount(present, minlength=n_categories + 1) / max(1, len(present))
    return {"shares": shares.tolist(), "missing_share": 1 - len(present) / len(codes)}
