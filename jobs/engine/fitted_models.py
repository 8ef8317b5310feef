"""Fitted pyspark.ml models, deleted from the Spark Connect server at a safe point and never by garbage collection.

A fitted model refers to itself through its summary, so only garbage collection ends it. Collection may begin inside any call,
also while ThreadPoolExecutor.submit holds its lock. The model's `__del__` then sends a command, which needs the same lock: the
client waits for itself for good (https://issues.apache.org/jira/browse/SPARK-55020).
"""

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.ml import Estimator, Model
from pyspark.ml.util import RemoteModelRef
from pyspark.sql import DataFrame


@contextmanager
def fitted_model(estimator: Estimator, frame: DataFrame) -> Iterator[Model]:
    """Fit `estimator` to `frame`, yield the model, and release it at the end of the block, after an error too.

    Frames that the model has transformed cannot be read afterwards.
    """
    model = estimator.fit(frame)
    try:
        yield model
    finally:
        release_model(model)


def release_model(model: Model) -> None:
    """Delete a model, or each stage of a pipeline's, from the server, in this thread; its `__del__` then does nothing.

    Without a server nothing has to be deleted.
    """
    for stage in getattr(model, "stages", [model]):
        if isinstance(reference := stage._java_obj, RemoteModelRef):
            stage._java_obj = None
            if summary := vars(stage).pop("_summary", None):  # counts as a second user of the reference
                del summary._remote_model_obj
                reference.release_ref()
            reference.release_ref()
