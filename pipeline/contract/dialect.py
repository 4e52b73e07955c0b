"""Where the SQL of DuckDB and Hive differs, in one table; every SELECT of ours is one text for both otherwise.

What both know needs no entry: NULLS LAST is always said, since Hive's default is NULLS FIRST; ``/`` divides as
floating point in both; no boolean is cast; no time function is used, as times are BIGINT ms.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Dialect:
    """Words of one engine. The templates take ``{text}``, ``{pattern}``, ``{value}``, ``{order}`` as SQL."""

    name: str
    quote: str
    """Around an identifier that is a reserved word."""

    escapes: Mapping[str, str]
    """Characters of a string literal that are written in another way."""

    matching: str
    """True where ``{text}`` holds a match of the regular expression ``{pattern}``."""

    newest_value: str
    """Aggregate: the ``{value}`` that is not NULL at the greatest ``{order}``."""

    collected: str
    """Aggregate: list of every ``{value}`` of the group; the values must not be NULL, Hive leaves those out."""

    length: str
    """Number of elements of the array ``{value}``."""

    def literal(self, text: str) -> str:
        """A string as SQL."""
        return "'" + "".join(self.escapes.get(letter, letter) for letter in text) + "'"

    def identifier(self, name: str) -> str:
        """A column's name as SQL, whatever word it is."""
        return f"{self.quote}{name}{self.quote}"

    def matches(self, text: str, pattern: str) -> str:
        """Condition: the SQL ``text`` holds a match of the regular expression ``pattern`` (plain text)."""
        return self.matching.format(text=text, pattern=self.literal(pattern))

    def newest(self, value: str, order: str) -> str:
        """Aggregate: ``value`` where it is not NULL and ``order`` is greatest, both as SQL."""
        return self.newest_value.format(value=value, order=order)

    def list_of(self, value: str) -> str:
        """Aggregate: the values of a group as an array, in the same order for every column of one SELECT."""
        return self.collected.format(value=value)

    def length_of(self, array: str) -> str:
        """Number of elements of an array."""
        return self.length.format(value=array)


DUCKDB: Final = Dialect(
    name="duckdb",
    quote='"',
    escapes={"'": "''"},
    matching="regexp_matches({text}, {pattern})",
    newest_value="arg_max({value}, {order})",
    collected="list({value})",
    length="len({value})",
)

HIVE: Final = Dialect(
    name="hive",
    quote="`",
    # Hive reads backslashes in a literal (BaseSemanticAnalyzer.unescapeSQLString).
    escapes={"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"},
    matching="{text} RLIKE {pattern}",
    # Structs compare field by field; Hive has no max_by.
    newest_value="max(CASE WHEN {value} IS NOT NULL THEN struct({order}, {value}) END).col2",
    collected="collect_list({value})",
    length="size({value})",
)
