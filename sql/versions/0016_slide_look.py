"""The images of each slide are compared with those that a model knows, and what was found follows the slide's cells."""

from alembic import op

revision = "0016"
down_revision = "0015"

_REFUSE_CHANGE = """
CREATE OR REPLACE FUNCTION bloodcell.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- an erasure deletes a patient's rows and blanks names in texts; its own record is never changed
    IF (TG_OP = 'DELETE' AND TG_TABLE_NAME IN ('label', 'checked_cell', 'data_split', 'dataset_image', 'drop_file_history',
                                             'slide_withdrawal', 'cell_call', 'former_call', 'slide_report', 'differential',
                                             'result', 'sampled_cell', 'slide_opening', 'slide_comment'{0})
        OR TG_OP = 'UPDATE' AND TG_TABLE_NAME IN ('label', 'label_file', 'promotion', 'approval_answer', 'drop_file_history',
                                              'slide_withdrawal', 'result', 'slide_comment'))
       AND EXISTS (SELECT FROM bloodcell.erasure WHERE erased_at = transaction_timestamp()) THEN
        RETURN NULL;
    END IF;
    -- the app may call forget_snapshot, which checks that nothing uses the snapshot; it may not delete by itself
    IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'dataset_image' AND current_setting('bloodcell.forgetting', true) = 'on' THEN
        RETURN NULL;
    END IF;
    -- the app may call replace_calls, which keeps what it replaces
    IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'cell_call' AND current_setting('bloodcell.replacing', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% on bloodcell.% is refused: the table is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege', HINT = 'Add a new row that supersedes the earlier one.';
END $$;
"""

# check_id, model_id ... are as in night_check (0013), but a row is of a slide's first cell: whatever becomes of the slide's
# barcode, the row stays with the cells that were compared
UPGRADE = """
CREATE TABLE bloodcell.look_check (
    check_id BIGINT GENERATED ALWAYS AS IDENTITY NOT NULL,
    cell_id BIGINT NOT NULL,
    model_id VARCHAR(64) NOT NULL,
    n_cells INTEGER NOT NULL,
    distance FLOAT,
    threshold FLOAT,
    passed BOOLEAN NOT NULL,
    reason TEXT NOT NULL,
    figures JSONB NOT NULL,
    run_id UUID NOT NULL,
    checked_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (check_id),
    FOREIGN KEY(cell_id) REFERENCES bloodcell.cell (cell_id),
    FOREIGN KEY(model_id) REFERENCES bloodcell.model (model_id),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
);
CREATE INDEX look_check_cell ON bloodcell.look_check (cell_id, model_id);
-- what was found for a night was found for each of its slides
INSERT INTO bloodcell.look_check (cell_id, model_id, n_cells, distance, threshold, passed, reason, figures, run_id, checked_at)
SELECT s.cell_id, k.model_id, k.n_cells, k.distance, k.threshold, k.passed, k.reason, k.figures, k.run_id, k.checked_at
FROM bloodcell.night_check k
JOIN (SELECT s.night, min(c.cell_id) AS cell_id FROM bloodcell.slide s JOIN bloodcell.cell c USING (slide_id)
      GROUP BY s.night, s.slide_id) s USING (night)
ORDER BY k.check_id, s.cell_id;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON bloodcell.look_check
    FOR EACH STATEMENT EXECUTE FUNCTION bloodcell.refuse_change();
GRANT SELECT, INSERT ON bloodcell.look_check TO bloodcell_app;
-- the views of the former release read it, and every upgrade makes the views again
DROP TABLE bloodcell.night_check CASCADE;
"""

DOWNGRADE = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM bloodcell.look_check) THEN
        RAISE EXCEPTION 'Slides have been compared with what a model knows, and the former schema cannot hold that'
            USING HINT = 'Stay with this release, or restore the backup that was made before the upgrade.';
    END IF;
END $$;
DROP TABLE bloodcell.look_check CASCADE;
CREATE TABLE bloodcell.night_check (
    check_id BIGINT GENERATED ALWAYS AS IDENTITY NOT NULL,
    night DATE NOT NULL,
    model_id VARCHAR(64) NOT NULL,
    n_cells INTEGER NOT NULL,
    distance FLOAT,
    threshold FLOAT,
    passed BOOLEAN NOT NULL,
    reason TEXT NOT NULL,
    figures JSONB NOT NULL,
    run_id UUID NOT NULL,
    checked_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (check_id),
    FOREIGN KEY(night) REFERENCES bloodcell."drop" (night),
    FOREIGN KEY(model_id) REFERENCES bloodcell.model (model_id),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
);
CREATE INDEX night_check_night ON bloodcell.night_check (night, model_id, check_id);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON bloodcell.night_check
    FOR EACH STATEMENT EXECUTE FUNCTION bloodcell.refuse_change();
GRANT SELECT, INSERT ON bloodcell.night_check TO bloodcell_app;
"""


def upgrade() -> None:
    _run(UPGRADE + _REFUSE_CHANGE.format(", 'look_check'"))


def downgrade() -> None:
    _run(_REFUSE_CHANGE.format("") + DOWNGRADE)


def _run(statements: str) -> None:
    op.get_bind().exec_driver_sql(statements, execution_options={"no_parameters": True})
