"""The planted rhythms: in which order a customer does the same things.

A rhythm changes neither what is done in a session nor when something is done; only which step comes first:

direct      search, view, put into the cart, and the next; one category after the other
comparing   search everything, then view by turns in all categories, then fill the cart
browsing    view what is not bought, then search, then view and put into the cart one by one
"""

import numpy as np

from jobs.sample.draws import number_within_groups

RHYTHM_NAMES = ("direct", "comparing", "browsing")
DIRECT, COMPARING, BROWSING = range(len(RHYTHM_NAMES))
FIDELITY = 0.9  # share of a customer's sessions in their rhythm; the others are in any
NO_RHYTHM = -1


def draw_rhythms(rng: np.random.Generator, own_rhythm: np.ndarray) -> np.ndarray:
    """Return a rhythm for each session: mostly the customer's own, any where it is NO_RHYTHM."""
    n = len(own_rhythm)
    any_rhythm = rng.integers(0, len(RHYTHM_NAMES), n)
    return np.where((own_rhythm >= 0) & (rng.random(n) < FIDELITY), own_rhythm, any_rhythm)


def rank_views(rhythm: np.ndarray, views: np.ndarray, adds: np.ndarray, category: np.ndarray) -> np.ndarray:
    """Return the position of each view in its session, from 0 on.

    `rhythm`, `views` and `adds` are per session, `category` per view. The first `adds` views of a session are of the
    products that are put into the cart.
    """
    session, nth = np.repeat(np.arange(len(views)), views), number_within_groups(views)
    by_category = np.lexsort((nth, category, session))
    is_first = np.diff(session[by_category], prepend=-1).astype(bool) | np.diff(category[by_category], prepend=-1).astype(bool)
    sizes = np.diff(np.flatnonzero(is_first), append=len(nth))
    first_of_category, nth_of_category = np.empty_like(nth), np.empty_like(nth)
    first_of_category[by_category] = np.repeat(nth[by_category][is_first], sizes)
    nth_of_category[by_category] = number_within_groups(sizes)
    is_added = nth < adds[session]
    key = np.choose(rhythm[session], (first_of_category, nth_of_category, is_added))
    rank = np.empty_like(nth)
    rank[np.lexsort((nth, key, session))] = nth
    return rank
