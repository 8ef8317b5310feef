"""Tables as lines of text for people."""


def align_columns(rows: list[list[str]], left: set[int]) -> list[str]:
    """Return a header and its rows as lines, with a rule below the header; the columns of `left` are left-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    ]
    return [lines[0], "  ".join("-" * w for w in widths), *lines[1:]]
