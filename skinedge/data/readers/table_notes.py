"""Say which tables of a folder were used with which columns, and which were not."""

from __future__ import annotations

from skinedge.data.readers.contents import Contents
from skinedge.data.table_file import Table, fold_column
from skinedge.system.progress import note

# Words in names of columns that may tell lesions or patients, but are not known to.
_GROUP_WORDS = ("lesion", "patient", "subject", "person", "participant", "case")


def note_tables(contents: Contents) -> None:
    """Print which tables were used with which columns, and name those that were not understood or not read."""
    for table in contents.tables:
        if not contents.is_understood(table):
            note(f"not understood, and not used: {table.describe()}")
        else:
            note(f"table {table.name}: {describe_use(contents, table)}")
    for unread in contents.unread:
        note(f"not read: {unread.describe()}")


def describe_use(contents: Contents, table: Table) -> str:
    """Return which columns are used for what, which are not, and the guesses made to read it."""
    if table.name in contents.uses:
        return contents.uses[table.name]
    roles, labels = contents.roles[table.name], table in contents.label_tables
    parts = [f"image {roles.image}"] if roles.image else []
    if labels and contents.is_one_hot(table):
        parts.append("a column for each class")
    elif labels:
        parts.append(f"label {' or '.join(roles.labels)}")
    named = {"lesion": (roles.lesion,), "patient": (roles.patient,), **roles.meta}
    parts += [f"{role} {' or '.join(columns)}" for role, columns in named.items() if any(columns)]
    ignored = contents.unused_columns(table)
    if ignored:
        more = f" and {len(ignored) - 6} more" if len(ignored) > 6 else ""
        parts.append(f"not used: {', '.join(column or '(unnamed)' for column in ignored[:6])}{more}")
    groups = [column for column in ignored if any(word in fold_column(column) for word in _GROUP_WORDS)]
    if groups and not (roles.lesion or roles.patient):
        role = "lesion" if "lesion" in fold_column(groups[0]) else "patient"
        parts.append(f"if {groups[0]} tells a {role}: --columns {role}={groups[0]}")
    if table.guesses:
        parts.append(f"read with {', '.join(table.guesses)}")
    return "; ".join(parts)
