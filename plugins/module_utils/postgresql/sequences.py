"""Sequences of a restored database: none goes back below a number that was handed out after its moment, which somebody else may know a row by.

Standard library alone, and no import from __future__: roles backup and pitr install this file beside their programs.
"""

# Those that go up, without an end at which they begin anew; a name is as SQL takes it
HELD = "select format('%I.%I', schemaname, sequencename), coalesce(last_value, 0) from pg_sequences where increment_by > 0 and not cycle;"
# Without the margin where that would be its end
TO = "select setval({name}::regclass, case when {number:d} < seqmax then {number:d} else {asked:d} end) from pg_sequence where seqrelid = {name}::regclass;\n"
MARGIN = 1000  # numbers that may have been handed out between the question and the end of the last session


def held(rows: list) -> dict:
    """{name: last number}, of the rows that HELD answers."""
    return {row[0]: int(row[1]) for row in rows if len(row) == 2}


def raised(before: dict, restored: dict, served: bool = False) -> dict:
    """Where those of a restored database that handed out more before are to go on: a sequence that was made since has no place in it.

    `served`: there are clients, so that one in use which stands where it stood may be asked for more by the time that the other takes its place.
    """
    return {name: number + MARGIN for name, number in before.items() if name in restored and restored[name] < number + (served and number > 0)}


def script(numbers: dict) -> str:
    """What brings them there: the next number is one that nobody has."""
    return "".join(TO.format(name=literal(name), number=number, asked=number - MARGIN) for name, number in sorted(numbers.items()))


def literal(text: str) -> str:
    """A text as SQL takes it."""
    return "'" + text.replace("'", "''") + "'"
