"""clean.identity_alarms: what too many customers share, written only when it changes. Scenarios of identities have examples."""

from datetime import date

import pyarrow as pa

from jobs.clean import customers, identities, identity_alarms
from jobs.config.settings import Clean


def test_alarms_are_counted_in_the_log_and_written_only_when_they_change(lake, capsys):
    held = [("anna", "m", 1), ("bert", "m", 2), ("bert", "m", 3), ("carl", "own", 1)]
    rows = [{"customer_id": who, "email_key": mail, "day": date(2024, 3, n)} for who, mail, n in held]
    lake.replace_rows(customers.TABLE, pa.Table.from_pylist(rows, customers.TABLE.arrow_schema))
    lake.create(identities.TABLE)
    for _ in range(2):
        identity_alarms.run(lake, None, Clean())
    alarms = [tuple(map(str, row.values())) for row in lake.read_small_table(identity_alarms.TABLE)]
    assert alarms == [("shared_mail", "m", "2024-03-02", "2")]
    assert lake.version(identity_alarms.TABLE.name) == 1
    assert capsys.readouterr().out.count("0 visitors, 1 addresses, 0 customer ids: too many people") == 2
