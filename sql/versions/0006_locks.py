"""A reader's open transaction, or a lock that any login may take, no longer stops the work.

A partition is attached: for that, Postgres neither waits for readers nor makes them wait. CREATE TABLE ... PARTITION OF
did both.

Work that only one transaction may do at a time locks a row of its own, which only bloodcell's roles may lock; advisory
locks can be held by every login.
"""

from alembic import op

revision = "0006"
down_revision = "0005"

LOCK = """
CREATE TABLE bloodcell.lock (
    work TEXT NOT NULL,
    PRIMARY KEY (work),
    CONSTRAINT lock_work CHECK (work IN ('check', 'partition', 'promotion', 'split'))
);
INSERT INTO bloodcell.lock VALUES ('check'), ('partition'), ('promotion'), ('split');
GRANT SELECT, UPDATE ON bloodcell.lock TO bloodcell_app;
"""

# A session that has waited for the row reads the catalogue directly. to_regclass would answer from the session's own cache,
# which does not yet hold the table that the other session made.
#
# The foreign keys of a new partition lock the tables that they refer to against writing (SHARE ROW EXCLUSIVE), which no
# reader prevents. The next month's partition is made early, so that no night has to wait at the turn of a month; if it
# cannot be made at once, the next classification tries again.
PARTITIONS = """
CREATE FUNCTION bloodcell.attach_call_partition(first_day date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    name text := 'cell_call_' || to_char(first_day, 'YYYY_MM');
BEGIN
    PERFORM 1 FROM bloodcell.lock WHERE work = 'partition' FOR UPDATE;
    IF NOT EXISTS (SELECT 1 FROM pg_class WHERE relname = name AND relnamespace = 'bloodcell'::regnamespace) THEN
        EXECUTE format('CREATE TABLE bloodcell.%I (LIKE bloodcell.cell_call INCLUDING ALL)', name);
        EXECUTE format('ALTER TABLE bloodcell.cell_call ATTACH PARTITION bloodcell.%I FOR VALUES FROM (%L) TO (%L)',
                       name, first_day, (first_day + interval '1 month')::date);
    END IF;
END $$;
REVOKE ALL ON FUNCTION bloodcell.attach_call_partition(date) FROM PUBLIC;
COMMENT ON FUNCTION bloodcell.attach_call_partition(date) IS 'Makes the partition of cell_call of one month if missing.';

CREATE OR REPLACE FUNCTION bloodcell.ensure_call_partition(a_night date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    this_month date := date_trunc('month', a_night)::date;
    next_month date := (date_trunc('month', a_night) + interval '1 month')::date;
    before text := current_setting('lock_timeout');
BEGIN
    IF to_regclass('bloodcell.cell_call_' || to_char(this_month, 'YYYY_MM')) IS NULL THEN
        PERFORM bloodcell.attach_call_partition(this_month);
    END IF;
    IF to_regclass('bloodcell.cell_call_' || to_char(next_month, 'YYYY_MM')) IS NULL THEN
        BEGIN
            PERFORM set_config('lock_timeout', '1s', true);
            PERFORM bloodcell.attach_call_partition(next_month);
            PERFORM set_config('lock_timeout', before, true);
        EXCEPTION WHEN lock_not_available THEN NULL;
        END;
    END IF;
END $$;
COMMENT ON FUNCTION bloodcell.ensure_call_partition(date) IS
    'Makes the partitions of cell_call of the night''s month and of the next month if missing.';
"""

FORMER_PARTITIONS = """
CREATE OR REPLACE FUNCTION bloodcell.ensure_call_partition(a_night date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    first_day date := date_trunc('month', a_night)::date;
    name text := 'cell_call_' || to_char(a_night, 'YYYY_MM');
BEGIN
    IF to_regclass('bloodcell.' || name) IS NULL THEN
        PERFORM pg_advisory_xact_lock(hashtext('bloodcell.' || name));
        EXECUTE format('CREATE TABLE IF NOT EXISTS bloodcell.%I PARTITION OF bloodcell.cell_call '
                       'FOR VALUES FROM (%L) TO (%L)', name, first_day, (first_day + interval '1 month')::date);
    END IF;
END $$;
COMMENT ON FUNCTION bloodcell.ensure_call_partition(date) IS 'Makes the month''s partition of cell_call if missing.';
DROP FUNCTION bloodcell.attach_call_partition(date);
DROP TABLE bloodcell.lock;
"""


def upgrade() -> None:
    for script in (LOCK, PARTITIONS):
        op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})


def downgrade() -> None:
    op.get_bind().exec_driver_sql(FORMER_PARTITIONS, execution_options={"no_parameters": True})
