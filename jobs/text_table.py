"""Tables as lines of text for people."""


def aligned(rows: list[list[str]], left: set[int]) -> list[str]:
    """A head and its rows as lines with a rule below the head; the columns of `left` begin flush, the others end so."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    ]
    return [lines[0], "  ".join("-" * w for w in widths), *lines[1:]]
