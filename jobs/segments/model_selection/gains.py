"""What each representation adds to the variance that the clusters of the learned embedding explain.

The difference is taken in each resample of the same customers, so that its interval is narrower than those of the two shares.
"""

from collections.abc import Mapping

import numpy as np

from jobs.segments.model_selection.gate import INTERVAL, Candidate

COLUMNS = ("separation_gain", "separation_gain_low", "separation_gain_high")  # of segments.candidates


def list_gains(candidates: Mapping[str, Candidate], baseline: str) -> dict[str, dict[str, float]]:
    """Return COLUMNS by name of every candidate but the baseline; without those whose variance explained is not known.

    >>> learned, text = (Candidate(name, 2, 1.0, 1.0, np.array(shares)) for name, shares in
    ...     (("learned", [0.1, 0.1, 0.2]), ("learned_text", [0.3, 0.4, 0.5])))
    >>> round(list_gains({"learned": learned, "learned_text": text}, "learned")["learned_text"]["separation_gain"], 2)
    0.2
    """
    shares = {name: c.variance_explained for name, c in candidates.items() if c.variance_explained is not None}
    if baseline not in shares:
        return {}
    leads = {name: of_name - shares[baseline] for name, of_name in shares.items() if name != baseline}
    return {
        name: dict(zip(COLUMNS, (float(lead[0]), *np.percentile(lead[1:], INTERVAL).tolist()), strict=True))
        for name, lead in leads.items()
    }
