"""Triggers that refuse to change or delete a row, or to add one that does not follow the last."""

from __future__ import annotations

import sqlalchemy as sa

_TABLE = "fusionlens_audit"
_REFUSAL = "the audit log is append-only"
_GAP = "a row of the audit log follows the last one"

# INSERT OR REPLACE deletes without the delete trigger; the one before an insert refuses it.
SQLITE_GUARDS = (
    f"""CREATE TRIGGER {_TABLE}_no_update BEFORE UPDATE ON {_TABLE}
    BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END""",
    f"""CREATE TRIGGER {_TABLE}_no_delete BEFORE DELETE ON {_TABLE}
    BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END""",
    f"""CREATE TRIGGER {_TABLE}_in_order BEFORE INSERT ON {_TABLE}
    WHEN NEW.seq IS NOT (SELECT COALESCE(MAX(seq), 0) + 1 FROM {_TABLE})
    BEGIN SELECT RAISE(ABORT, '{_GAP}'); END""",
)

POSTGRESQL_GUARDS = (
    f"""CREATE OR REPLACE FUNCTION {_TABLE}_refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$""",
    f"""CREATE OR REPLACE FUNCTION {_TABLE}_follow() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN
      IF NEW.seq IS DISTINCT FROM (SELECT COALESCE(MAX(seq), 0) + 1 FROM {_TABLE}) THEN
        RAISE EXCEPTION '{_GAP}';
      END IF;
      RETURN NEW;
    END $$""",
    f"""CREATE TRIGGER {_TABLE}_no_change BEFORE UPDATE OR DELETE ON {_TABLE}
    FOR EACH ROW EXECUTE FUNCTION {_TABLE}_refuse()""",
    f"""CREATE TRIGGER {_TABLE}_no_truncate BEFORE TRUNCATE ON {_TABLE}
    FOR EACH STATEMENT EXECUTE FUNCTION {_TABLE}_refuse()""",
    f"""CREATE TRIGGER {_TABLE}_in_order BEFORE INSERT ON {_TABLE}
    FOR EACH ROW EXECUTE FUNCTION {_TABLE}_follow()""",
)

_COUNT = {
    "sqlite": "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :name",
    "postgresql": "SELECT count(*) FROM pg_trigger WHERE tgrelid = to_regclass(:name) "
    "AND NOT tgisinternal AND tgenabled <> 'D'",
}


def count_guards(connection: sa.Connection, table: str) -> int:
    """How many triggers of the table are in force."""
    query = sa.text(_COUNT[connection.dialect.name])
    return int(connection.execute(query, {"name": table}).scalar_one())
