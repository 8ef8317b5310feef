"""The planted tastes: what a customer's words are about, whatever the category, the brand and the price.

A taste shows in the names of products and in search terms, and in which products go together. No feature sees it: each
product line comes in one design per taste, of the same category, brand and price. A taste is a meaning and no word: a
category has some of its words, and a customer searches by some of them.
"""

import numpy as np

TASTES = {
    "organic": (
        "organic", "vegan", "natural", "sustainable", "compostable", "herbal", "recycled", "biodegradable",
        "ecological", "fairtrade", "botanical", "renewable",
    ),
    "luxury": (
        "luxury", "deluxe", "premium", "golden", "diamond", "exclusive", "opulent", "royal", "lavish", "platinum",
        "prestige", "elegant",
    ),
    "outdoor": (
        "camping", "hiking", "trekking", "mountain", "wilderness", "alpine", "expedition", "backpacking", "trail",
        "climbing", "campfire", "rambling",
    ),
    "vintage": (
        "vintage", "antique", "retro", "victorian", "nostalgic", "traditional", "heirloom", "medieval", "classic",
        "historical", "ancient", "edwardian",
    ),
}  # fmt: skip
TASTE_NAMES = tuple(TASTES)
WORDS_PER_TASTE = 12
WORDS = tuple(word for words in TASTES.values() for word in words)
WORDS_PER_CUSTOMER = 3  # that a customer searches by
FIDELITY = 0.9  # share of the views and searches that follow the customer's taste; the others follow any
NO_TASTE = -1


def draw_tastes(rng: np.random.Generator, own_taste: np.ndarray) -> np.ndarray:
    """Return a taste for each view or search: mostly the customer's own, any where it is NO_TASTE."""
    n = len(own_taste)
    any_taste = rng.integers(0, len(TASTES), n)
    return np.where((own_taste >= 0) & (rng.random(n) < FIDELITY), own_taste, any_taste)


def find_title_words(category: int, line: int, taste: int) -> tuple[str, ...]:
    """Return the three words that the name of a product has of its taste.

    >>> find_title_words(category=0, line=9, taste=0)
    ('vegan', 'compostable', 'fairtrade')
    """
    words = TASTES[TASTE_NAMES[taste]]
    return tuple(words[(2 * category + place) % WORDS_PER_TASTE] for place in (line % 4, 4 + line % 3, 8 + line % 2))
