"""The map of the active customers: the first two principal axes of their vectors."""

import hashlib
from collections.abc import Callable, Sequence
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.report._segments import dormant_last
from jobs.report._tables import read_table
from jobs.traits import DORMANT

MAP_WIDTH, MAP_HEIGHT, MAP_MARGIN = 760, 460, 24
MAP_POINTS = 5000
MAP_LAYERS = 10
MAP_TAIL = 0.005  # this share of the points at either end of an axis may lie outside the map, so that few stretch it


def draw_map(root: str, day: date, version: str, definitions: list[dict], segments: list[dict]) -> dict | None:
    """Return the dots of the active customers and the centres of their segments; None where there are no vectors."""
    cards = {s["segment_id"]: s for s in segments if s["segment_id"] != DORMANT}
    customers = _read_customers(root, day, list(cards))
    if customers is None or customers.num_rows < 2:
        return None
    lists = customers["vector"].combine_chunks()
    vectors = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float64).reshape(len(lists), -1)
    mean, axes, explained = principal_axes(vectors)
    sample = sample_positions(customers["customer_id"].to_pylist())
    points, segment_ids = (vectors[sample] - mean) @ axes, customers["segment_id"].to_numpy()[sample]
    fitted = [d for d in definitions if d["model_version"] == version and d["center"] and d["segment_id"] in cards]
    fitted.sort(key=dormant_last)
    centres = (np.array([d["center"] for d in fitted]).reshape(-1, vectors.shape[1]) - mean) @ axes
    to_places = _scale_to_picture(points, centres)
    places = to_places(points)
    is_inside = ((places >= 0) & (places <= (MAP_WIDTH, MAP_HEIGHT))).all(axis=1)
    return {
        "width": MAP_WIDTH,
        "height": MAP_HEIGHT,
        "clouds": [(cards[i]["colour"], dots) for i, dots in _layer_dots(places, segment_ids, is_inside)],
        "centres": [
            {"segment": cards[d["segment_id"]], "x": round(x), "y": round(y)}
            for d, (x, y) in zip(fitted, to_places(centres).tolist(), strict=True)
        ],
        "shown": int(is_inside.sum()),
        "outside": int((~is_inside).sum()),
        "active": len(vectors),
        "dimensions": vectors.shape[1],
        "explained": explained,
    }


def _read_customers(root: str, day: date, segment_ids: list[int]) -> pa.Table | None:
    """Return customer_id, vector and segment_id of the customers in these segments; None where a table is missing."""
    encoded = read_table(root, "encoded.customers", ["customer_id", "vector"], day)
    assigned = read_table(root, "segments.assignments", ["customer_id", "segment_id"], day)
    if encoded is None or assigned is None:
        return None
    assigned = assigned.filter(pc.is_in(assigned["segment_id"], value_set=pa.array(segment_ids, pa.int32())))
    position = pc.index_in(encoded["customer_id"], value_set=assigned["customer_id"].combine_chunks())
    return encoded.append_column("segment_id", assigned["segment_id"].take(position)).filter(pc.is_valid(position))


def principal_axes(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the mean, the first two principal axes as columns, and their share of the variance, of vectors (n x d).

    The sign of an axis is fixed: its strongest dimension is positive.
    """
    mean = vectors.mean(axis=0)
    centred = vectors - mean
    _, variances, directions = np.linalg.svd(centred.T @ centred / len(vectors))
    axes = np.zeros((vectors.shape[1], 2))
    axes[:, : min(2, len(directions))] = directions[:2].T
    strongest = axes[np.abs(axes).argmax(axis=0), [0, 1]]
    axes *= np.where(strongest < 0, -1.0, 1.0)
    return mean, axes, float(variances[:2].sum() / variances.sum()) if variances.sum() > 0 else 1.0


def sample_positions(customer_ids: Sequence[str]) -> np.ndarray:
    """Return the positions of at most MAP_POINTS customers, the same customers in any order of the rows."""
    hashes = [hashlib.blake2b(i.encode(), digest_size=8).digest() for i in customer_ids]
    return np.array(sorted(range(len(hashes)), key=hashes.__getitem__)[:MAP_POINTS])


def _scale_to_picture(points: np.ndarray, centres: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from coordinates (n x 2, y upwards) to places in the picture (y downwards)."""
    corners = np.vstack([*np.quantile(points, [MAP_TAIL, 1 - MAP_TAIL], axis=0), centres])
    low, high = corners.min(axis=0), corners.max(axis=0)
    size = np.array([MAP_WIDTH, MAP_HEIGHT], dtype=float)
    # One scale for both axes keeps distances true.
    scale = ((size - 2 * MAP_MARGIN) / np.where(high > low, high - low, 1.0)).min()
    middle = (low + high) / 2
    return lambda coordinates: size / 2 + (coordinates - middle) * scale * (1.0, -1.0)


def _layer_dots(places: np.ndarray, segment_ids: np.ndarray, is_inside: np.ndarray) -> list[tuple[int, str]]:
    """Return (segment, SVG path of its dots) in layers, so that no segment covers another and dense places are darker."""
    layer = np.arange(len(places)) % MAP_LAYERS
    return [
        (segment_id, _dots_path(places[is_inside & (layer == at) & (segment_ids == segment_id)]))
        for at in range(MAP_LAYERS)
        for segment_id in np.unique(segment_ids).tolist()
    ]


def _dots_path(places: np.ndarray) -> str:
    """Return an SVG path with a dot at each place: far shorter than as many circles."""
    return "".join(f"M{x:.0f} {y:.0f}h0" for x, y in places.tolist())
