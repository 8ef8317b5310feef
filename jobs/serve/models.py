"""What the answers look like, for the OpenAPI page: made from the contracts of the tables, comments included."""

from datetime import date
from typing import Any

from pydantic import BaseModel, Field, create_model

from jobs.activation._changes import SEGMENT_CHANGES
from jobs.marts import customer_segments, segment_changes, segment_profiles
from jobs.scores import customer_values
from jobs.serve.snapshot import OUTCOMES, RECOMMENDATIONS
from jobs.storage.table import Table

_TYPES = {"string": str, "int": int, "bigint": int, "double": float, "boolean": bool, "date": date, "decimal(18,4)": float}


def _model_rows(name: str, table: Table, *left_out: str, **more: Any) -> type[BaseModel]:
    """Return a model of the rows of a table without some columns; nested columns are lists of objects."""
    fields = {
        column.name: (_to_type(column.sql_type) | None, Field(None, description=column.comment))
        for column in table.fields
        if column.name not in left_out
    }
    return create_model(name, **fields, **more)


def _to_type(sql_type: str) -> Any:
    if sql_type == "array<string>":
        return list[str]
    return list[dict] if sql_type.startswith("array<") else _TYPES[sql_type]


_DAY = (date, Field(description="The published day that the answer is of"))
_NEXT = (str | None, Field(None, description="`cursor` of the next page; null: this is the last one"))
_VALUES = _model_rows("Values", customer_values.TABLE, "customer_id", "day")
_OUTCOME = _model_rows("Outcome", OUTCOMES, "customer_id", "day")
_RECOMMENDATION = _model_rows("Recommendation", RECOMMENDATIONS, "customer_id", "day")
_MEMBER = _model_rows("Member", customer_segments.TABLE, "as_of_day")
_CHANGE = _model_rows("Change", segment_changes.TABLE, *({*segment_changes.TABLE.columns} - {*SEGMENT_CHANGES.names}))

CUSTOMER_ANSWER = _model_rows(
    "Customer", customer_segments.TABLE, "as_of_day", day=_DAY, values=(_VALUES | None, None), outcomes=(list[_OUTCOME], [])
)
RECOMMENDATIONS_ANSWER = create_model(
    "Recommendations", day=_DAY, customer_id=(str, ...), recommendations=(list[_RECOMMENDATION], ...)
)
SEGMENT_ANSWER = _model_rows("Segment", segment_profiles.TABLE, "day", day=_DAY)
SEGMENTS_ANSWER = create_model(
    "Segments", day=_DAY, segments=(list[_model_rows("Profile", segment_profiles.TABLE, "day", "traits")], ...)
)
MEMBERS_ANSWER = create_model("Members", day=_DAY, customers=(list[_MEMBER], ...), next_cursor=_NEXT)
CHANGES_ANSWER = create_model("Changes", day=_DAY, since=(date, ...), changes=(list[_CHANGE], ...), next_cursor=_NEXT)
NOT_FOUND = {404: {"description": "Not known on the day"}}
PAGED = NOT_FOUND | {409: {"description": "Another day was published since the first page"}}
