"""A guessed mapping as TOML, with a comment on each line that says how sure it is and why."""

import json
import re
from collections import Counter

from jobs.source_guess import values as looks
from jobs.source_guess.kinds import Kind
from jobs.source_guess.roles import COLUMNS, Guess, Role, name_event

_CURRENCY = re.compile("[A-Za-z]{3}")
_KIND_WORDS = {
    "return": r"return|refund|credit", "cancellation": r"cancel", "void": r"void|fail|expired", "test": r"^test",
    "adjustment": r"adjust|correct", "bad_debt": r"write.?off|bad.?debt", "gift_card": r"gift.?card|voucher", 
    "postage": r"postage|shipping|freight",
    "fee": r"^fee", "discount": r"discount|coupon",
}  # fmt: skip
_NO_SALE = re.compile(r"draft|pending|fail|void|expired", re.I)


def write_mapping(name: str, kinds: list[tuple[Kind, Guess]], header: list[str]) -> str:
    """Return the TOML of a mapping of these kinds of files; `header` are comments at its top."""
    lines = [f"# {line}" for line in header] + [f'name = "{name}"', _write_currency(kinds), '# time_zone = "Europe/Berlin"   '
             "# of the shop: what times without an offset are; UTC where it is not set"]  # fmt: skip
    tables = Counter(guess.table for _, guess in kinds if not guess.missing)
    for kind, guess in sorted(kinds, key=lambda pair: list(COLUMNS).index(pair[1].table)):
        block = _write_table(kind, guess, is_array=tables[guess.table] > 1)
        lines += ["", *(block if not guess.missing else _comment_out(kind, guess, block))]
        if guess.table == "events" and not guess.missing and not tables["orders"]:
            lines += _write_purchases(kind, guess)
    return "\n".join(lines) + "\n"


def write_blocks(kinds: list[tuple[Kind, Guess]]) -> str:
    """Return the tables of a mapping of these kinds of files alone."""
    tables = Counter(guess.table for _, guess in kinds)
    return "\n".join("\n".join(["", *_write_table(kind, guess, tables[guess.table] > 1)]) for kind, guess in kinds) + "\n"


def _write_purchases(kind: Kind, guess: Guess) -> list[str]:
    """Return the orders that the purchases among the events are; a comment where no column tells one order from another."""
    event_type = guess.roles["event_type"]
    words = [word for word in dict.fromkeys(kind.sample.values(event_type.column)) if name_event(word) == "purchase"]
    if not words:
        return []
    who = guess.roles.get("customer_id") or guess.roles["visitor_id"]
    time, number = guess.roles["event_at"], guess.roles.get("order_id")
    order_id = number.expression if number else f"concat_ws('-', {looks.quote(who.column)}, {looks.quote(time.column)})"
    columns = {"order_id": order_id, "ordered_at": time.expression, "customer_id": who.expression}
    columns |= {c: guess.roles[c].expression for c in ("product_id", "category", "currency") if c in guess.roles}
    columns |= {"quantity": "'1'"} | ({"unit_price": guess.roles["price"].expression} if "price" in guess.roles else {})
    texts = ", ".join(f"'{word}'" for word in words)
    lines = [f"# Orders: no file of orders was found. These are the purchases among {kind.pattern}; look at number and quantity.",
             "[orders]", f"files = {_text(kind.pattern)}",
             *(f"{word} = {_value(value)}" for word, value in kind.sample.words.items()),
             'delivery = "changes"', f'where = "{looks.quote(event_type.column)} IN ({texts})"', "[orders.columns]",
             *(f"{ours} = {_text(expression)}" for ours, expression in columns.items())]  # fmt: skip
    is_priced = "price" in guess.roles or number
    return ["", *(lines if is_priced else [line if line.startswith("#") else f"# {line}" for line in lines])]


def _comment_out(kind: Kind, guess: Guess, block: list[str]) -> list[str]:
    """Return a table that cannot be landed as comments, with what is to be filled in."""
    to_fill = [
        f'{column} = "..."   # fill it in: no column of {", ".join(kind.sample.columns)[:100]} looks like it'
        for column in guess.missing
    ]
    lines = [
        f"What {kind.pattern} holds is not known: a table of {guess.table} needs {', '.join(guess.missing)}. Fill in, or remove:"
    ]
    if len(guess.roles) < 2:
        return [f"# {kind.pattern} is left out: nothing is known that has columns such as {', '.join(kind.sample.columns)[:50]}"]
    return [line if line.startswith("#") else f"# {line}".rstrip() for line in (*lines, *block, *to_fill)]


def _write_currency(kinds: list[tuple[Kind, Guess]]) -> str:
    codes = Counter(
        value.upper() for kind, guess in kinds if guess.table == "orders" and "currency" in guess.roles
        for value in kind.sample.values(guess.roles["currency"].column) if _CURRENCY.fullmatch(value)
    )  # fmt: skip
    if codes:
        return f'currency = "{codes.most_common(1)[0][0]}"    # likely: most orders have it'
    return 'currency = "EUR"    # guess: no file says; put in the home currency'


def _write_table(kind: Kind, guess: Guess, is_array: bool) -> list[str]:
    sample, table = kind.sample, guess.table
    lines = [f"# {kind.pattern}: {len(kind.names)} file{'s' * (len(kind.names) != 1)}; taken for {table}"]
    lines += [f"# {note}" for note in sample.notes]
    lines += [f"[[{table}]]" if is_array else f"[{table}]", f"files = {_text(kind.pattern)}"]
    lines += [f"{word} = {_value(value)}" for word, value in sample.words.items()]
    lines += _write_file_day(kind, guess) + _write_delivery(kind, guess)
    if optional := [column for column in kind.optional if not column.startswith("header")]:
        lines.append(f"optional = {_value(optional)}    # only some of the files have them")
    if guess.personal:
        pairs = ", ".join(f"{_text(column)} = {_text(form)}" for column, form in guess.personal.items())
        lines.append(f"personal = {{ {pairs} }}    # stored as keyed hashes alone")
    if guess.drop:
        lines.append(
            f"drop = {_value(guess.drop)}    # names, phones, addresses and the like: never stored. Look whether any is missing"
        )
    lines += _write_where(kind, guess)
    lines.append(f"[{table}.columns]")
    lines += _write_columns(kind, guess)
    used = {role.column for role in guess.roles.values()} | set(guess.personal) | set(guess.drop)
    if rest := [column for column in sample.columns if column not in used]:
        fate = "not stored, as `keep` does not name them" if guess.personal or guess.drop else "kept as text"
        lines.append(f"# not mapped, {fate}: {', '.join(rest[:30])}")
    return lines


def _write_columns(kind: Kind, guess: Guess) -> list[str]:
    lines = []
    for ours, role in guess.roles.items():
        expression, reason = _refine(ours, role, kind, guess)
        lines.append(f"{ours} = {_text(expression)}    # {role.certainty}: {' '.join(reason.split())}")
    roles = guess.roles
    if guess.table == "orders" and not {"quantity", "line_amount"} & set(roles):
        lines.append("quantity = \"'1'\"    # guess: no column counts pieces, so each row is one")
    if guess.table == "orders" and not {"unit_price", "line_amount"} & set(roles):
        lines.append('# unit_price = "..."   # fill it in, or line_amount; without it the list price of the products is taken')
    if guess.table == "orders" and not {"customer_id", "email_key"} & set(roles):
        lines.append('# customer_id = "..."   # fill it in: no column says who bought')
    return lines


def _refine(ours: str, role: Role, kind: Kind, guess: Guess) -> tuple[str, str]:
    """Return the expression of a column, and why: words of a vendor become ours, and numbers lose what spreadsheets add."""
    values = kind.sample.values(role.column)
    if not role.column:
        return role.expression, role.reason
    if ours == "event_type":
        return _translate(role.expression, values, name_event, "other"), "the vendor's words become ours; look through them"
    if ours == "kind":
        return _translate(role.expression, values, _name_kind, "sale"), "the vendor's words become ours; look through them"
    if ours.endswith("_id") and values and looks.share(values, lambda text: text.endswith(".0") and looks.is_number(text)) > 0.5:
        return f"regexp_replace({looks.quote(role.column)}, '\\.0$', '')", "numbers that a spreadsheet wrote with .0"
    if ours.endswith("_id") and looks.share(values, looks.is_scientific) > 0:
        return role.expression, "WARNING: ids in scientific notation; export them as text, their last digits are lost"
    if role.expression == role.column and not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", role.column):
        return looks.quote(role.column), role.reason
    return role.expression, role.reason


def _translate(expression: str, values: list[str], name, otherwise: str) -> str:
    """Return a CASE that gives our word for each of the vendor's."""
    words = {word: name(word) or otherwise for word in dict.fromkeys(values)}
    if all(word == ours for word, ours in words.items()):
        return expression
    cases = [f"WHEN '{word.replace(chr(39), chr(39) * 2)}' THEN '{ours}'" for word, ours in list(words.items())[:40]]
    return f"CASE {looks.quote(expression)} {' '.join(cases)} ELSE '{otherwise}' END"


def _name_kind(word: str) -> str | None:
    return next((ours for ours, pattern in _KIND_WORDS.items() if re.search(pattern, word, re.I)), None)


def _write_file_day(kind: Kind, guess: Guess) -> list[str]:
    """Return file_day, unless rows of a file are later than the day in its name, which would refuse them."""
    if kind.file_day is None:
        return []
    time = next((guess.roles[ours] for ours in ("event_at", "ordered_at") if ours in guess.roles), None)
    later = 0
    for sample in kind.samples:
        day = re.search(kind.file_day, sample.name)[1].replace("-", "")
        later += (
            sum(
                value[:10].replace("-", "") > day
                for value in sample.values(time.column)
                if value[:4].isdigit() and value[4:5] == "-"
            )
            if time
            else 0
        )
    if later:
        return [
            f"# file_day = {_text(kind.file_day)}    # left out: {later} of the rows seen are later than the day of their file"
        ]
    return [f"file_day = {_text(kind.file_day)}    # likely: a file is landed when the day in its name is refreshed"]


def _write_delivery(kind: Kind, guess: Guess) -> list[str]:
    if guess.table != "orders":
        return []
    if "updated_at" in guess.roles:
        return [
            'delivery = "snapshots"    # likely: there is a time of the last change, so the newest version of an order counts'
        ]
    role = guess.roles.get("order_id")
    ids = [set(sample.values(role.column)) for sample in kind.samples] if role else []
    if any(ids[n] & ids[m] for n in range(len(ids)) for m in range(n)):
        return [
            'delivery = "snapshots"    # likely: the same orders stand in several files, so the newest version of an order counts'
        ]
    return ['delivery = "changes"    # guess: each row happened once; "snapshots" where each file holds orders as they are now']


def _write_where(kind: Kind, guess: Guess) -> list[str]:
    status = next((c for c in kind.sample.columns if re.search("status|state$", c, re.I)), None)
    if guess.table != "orders" or status is None:
        return []
    words = list(dict.fromkeys(kind.sample.values(status)))
    if len(words) > 12:
        return []
    no_sale = [word for word in words if _NO_SALE.search(word)] or ["draft"]
    texts = ", ".join(f"'{word}'" for word in no_sale)
    return [
        f"# {status} is one of {', '.join(words)}. Leave out what is no sale, or map it by kind:",
        f'# where = "{looks.quote(status)} NOT IN ({texts})"',
    ]


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_text(text) for text in value) + "]"
    return _text(str(value))


def _text(text: str) -> str:
    """Return a text as TOML; one with backslashes and without quotes as it is."""
    if "'" not in text and ("\\" in text or '"' in text) and text.isprintable():
        return f"'{text}'"
    return json.dumps(text, ensure_ascii=False)
