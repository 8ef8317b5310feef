"""What the groups of inputs of a learned embedding add to the variance that its clusters explain.

The baseline is the same network from which all groups are withheld. The learned embedding of the features alone is another
network, and may explain more or less for that reason. The difference is taken in each resample of the same customers, so that
its interval is narrower than those of the two shares.
"""

from collections.abc import Collection, Mapping

import numpy as np

from jobs.segments.model_selection.gate import INTERVAL, Candidate

COLUMNS = ("separation_gain", "separation_gain_low", "separation_gain_high")  # of segments.candidates


def list_gains(
    candidates: Mapping[str, Candidate], names: Collection[str], baseline: np.ndarray | None
) -> dict[str, dict[str, float]]:
    """Return COLUMNS by name of those candidates, of these names, whose variance explained is known; none without a baseline.

    `baseline` are the shares of variance explained without the groups, as those of a candidate.

    >>> text = Candidate("learned_text", 2, 1.0, 1.0, np.array([0.3, 0.4, 0.5]))
    >>> gains = list_gains({"learned_text": text}, ["learned_text"], np.array([0.1, 0.1, 0.2]))
    >>> round(gains["learned_text"]["separation_gain"], 2)
    0.2
    """
    if baseline is None:
        return {}
    shares = {name: candidates[name].variance_explained for name in names if name in candidates}
    leads = {name: of_name - baseline for name, of_name in shares.items() if of_name is not None}
    return {
        name: dict(zip(COLUMNS, (float(lead[0]), *np.percentile(lead[1:], INTERVAL).tolist()), strict=True))
        for name, lead in leads.items()
    }
