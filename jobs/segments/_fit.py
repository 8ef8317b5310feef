"""The centres of a day with a new fit: those of MLlib's K-Means, or the previous ones where these are nearly as good."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs import traits
from jobs.config.settings import Segment
from jobs.errors import UserError
from jobs.progress import log
from jobs.segments._centres import euclidean_distances
from jobs.segments._inputs import ActiveCustomers
from jobs.storage.vectors import list_slices, to_lists
from jobs.traits import DORMANT

# (customer_id, vector), k, settings, the inertia to reach -> centres (k x latent)
FitCentres = Callable[[pa.Table, int, Segment, float], np.ndarray]


def fit_centres(
    customers: ActiveCustomers, sample_centres: np.ndarray, previous: pa.Table | None, segment: Segment, fit: FitCentres
) -> np.ndarray:
    """Return the centres (k x latent) of the active customers, float32 as they are stored.

    `sample_centres` (k x latent) are those of the sample. `fit`, which is MLlib's, starts again until its inertia is as low as
    theirs. `previous` is segments.assignments under the model before, or None. Where it has as many segments, and their inertia
    in the new space is at most `segment.continuity` above that of the new fit, their centres are kept: fewer customers move
    then. Raises UserError where all customers lie in one place.
    """
    k, vectors = len(sample_centres), customers.vectors
    points = pa.table({"customer_id": customers.ids, "vector": to_lists(vectors)})
    centres = fit(points, k, segment, inertia(vectors, sample_centres))
    if previous is not None:
        centres = _keep_previous(vectors, centres, transfer_centres(customers, previous), segment.continuity)
    centres = np.unique(centres.astype(np.float32), axis=0)
    if len(centres) < 2:
        raise UserError("segment: all active customers lie in one place; train again: shoal train --retrain")
    if len(centres) < k:
        log(f"segment: asked for {k} clusters, the customers gave {len(centres)}")
    return centres


def inertia(vectors: np.ndarray, centres: np.ndarray) -> float:
    """Return the sum of the squared distances of vectors (n x latent) from the nearest of centres (k x latent)."""
    squares = (
        euclidean_distances(vectors[rows].astype(np.float64), centres).min(axis=1) ** 2 for rows in list_slices(len(vectors))
    )
    return float(sum(part.sum() for part in squares))


def transfer_centres(customers: ActiveCustomers, previous: pa.Table) -> np.ndarray:
    """Return the centres (m x latent) of the `previous` segments, of segments.assignments, in the space of `customers`.

    A centre is the mean of the segment's active customers. In a space that has not changed, this is one step of K-Means from
    the previous centres (Lloyd 1982).
    """
    members = previous.filter(pc.field("segment_id") != DORMANT)
    places = pc.index_in(customers.ids, members["customer_id"].combine_chunks())
    is_member = places.is_valid().to_numpy(zero_copy_only=False)
    segment_ids = members["segment_id"].combine_chunks().take(places.drop_null()).to_numpy()
    names = [str(number) for number in range(customers.vectors.shape[1])]
    return traits.feature_statistics(customers.vectors[is_member], segment_ids, names).mean


def _keep_previous(vectors: np.ndarray, centres: np.ndarray, previous: np.ndarray, continuity: float) -> np.ndarray:
    """Return the previous centres where they are as many and nearly as good as the new ones, else the new ones."""
    if len(previous) != len(centres):
        return centres
    new_inertia, previous_inertia = inertia(vectors, centres), inertia(vectors, previous)
    is_kept = previous_inertia <= new_inertia * (1 + continuity)
    difference = f"{previous_inertia / new_inertia - 1:+.2%}" if new_inertia else "none"
    log(
        f"fit   the previous centres in the new space: inertia {difference} against the new fit; "
        f"they are {'kept' if is_kept else 'not kept'}"
    )
    return previous if is_kept else centres
