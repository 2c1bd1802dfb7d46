"""A slide can be withdrawn, or renamed, by rows that are only ever added.

A barcode names at most one slide that stands. A renamed slide keeps its reports, and its cells move to the slide with the
right barcode. Only the trigger withdraws a slide or moves its cells, so that nothing of this happens without a row.
"""

from alembic import op

revision = "0009"
down_revision = "0008"

UPGRADE = """
ALTER TABLE bloodcell.slide ADD COLUMN delivered_as TEXT, ADD COLUMN withdrawn_at TIMESTAMP WITH TIME ZONE;
ALTER TABLE bloodcell.slide DROP CONSTRAINT slide_barcode_key;
CREATE UNIQUE INDEX slide_standing_barcode ON bloodcell.slide (barcode) WHERE withdrawn_at IS NULL;
CREATE INDEX ix_bloodcell_slide_barcode ON bloodcell.slide (barcode);

CREATE TABLE bloodcell.slide_withdrawal (
    withdrawal_id BIGINT GENERATED ALWAYS AS IDENTITY,
    slide_id BIGINT NOT NULL,
    action TEXT NOT NULL,
    renamed_to BIGINT,
    reason TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    recorded_by TEXT DEFAULT session_user NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    run_id UUID NOT NULL,
    PRIMARY KEY (withdrawal_id),
    FOREIGN KEY(slide_id) REFERENCES bloodcell.slide (slide_id),
    FOREIGN KEY(renamed_to) REFERENCES bloodcell.slide (slide_id),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id),
    CONSTRAINT slide_withdrawal_action CHECK (action IN ('withdraw', 'rename', 'restore')),
    CONSTRAINT slide_withdrawal_renamed_to CHECK ((action = 'rename') = (renamed_to IS NOT NULL)),
    CONSTRAINT slide_withdrawal_reason CHECK (length(trim(reason)) > 0),
    CONSTRAINT slide_withdrawal_requested_by CHECK (length(trim(requested_by)) > 0)
);
CREATE INDEX ix_bloodcell_slide_withdrawal_slide_id ON bloodcell.slide_withdrawal (slide_id);
CREATE INDEX ix_bloodcell_slide_withdrawal_renamed_to ON bloodcell.slide_withdrawal (renamed_to);

CREATE FUNCTION bloodcell.carry_out_withdrawal() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    is_withdrawn boolean;
BEGIN
    PERFORM FROM bloodcell.slide WHERE slide_id IN (NEW.slide_id, NEW.renamed_to) ORDER BY slide_id FOR UPDATE;
    SELECT withdrawn_at IS NOT NULL INTO is_withdrawn FROM bloodcell.slide WHERE slide_id = NEW.slide_id;
    IF (NEW.action = 'withdraw') = is_withdrawn
       OR EXISTS (SELECT FROM bloodcell.slide_withdrawal w
                  WHERE w.slide_id = NEW.slide_id AND w.action = 'rename' AND w.withdrawal_id < NEW.withdrawal_id) THEN
        RAISE EXCEPTION 'Action % is refused for slide_id %: it is withdrawn already, renamed already or not withdrawn',
            NEW.action, NEW.slide_id USING ERRCODE = 'check_violation', HINT = 'See the view withdrawal_history.';
    END IF;
    IF NEW.action = 'withdraw' THEN
        UPDATE bloodcell.slide SET withdrawn_at = NEW.recorded_at WHERE slide_id = NEW.slide_id;
    ELSIF NEW.action = 'restore' THEN
        UPDATE bloodcell.slide SET withdrawn_at = NULL WHERE slide_id = NEW.slide_id;
    ELSE
        IF EXISTS (SELECT FROM bloodcell.slide WHERE slide_id = NEW.renamed_to AND withdrawn_at IS NOT NULL)
           OR EXISTS (SELECT FROM bloodcell.cell WHERE slide_id = NEW.renamed_to) THEN
            RAISE EXCEPTION 'Cells cannot be moved to slide_id %, which is withdrawn or has cells', NEW.renamed_to
                USING ERRCODE = 'check_violation', HINT = 'Two slides would be added up in one result.';
        END IF;
        UPDATE bloodcell.cell SET slide_id = NEW.renamed_to WHERE slide_id = NEW.slide_id;
    END IF;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION bloodcell.carry_out_withdrawal() FROM PUBLIC;
COMMENT ON FUNCTION bloodcell.carry_out_withdrawal() IS
    'Withdraws or restores the slide that a new row names, or moves its cells to the slide with the right barcode.';
CREATE TRIGGER carry_out_withdrawal AFTER INSERT ON bloodcell.slide_withdrawal
    FOR EACH ROW EXECUTE FUNCTION bloodcell.carry_out_withdrawal();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON bloodcell.slide_withdrawal
    FOR EACH STATEMENT EXECUTE FUNCTION bloodcell.refuse_change();

CREATE OR REPLACE FUNCTION bloodcell.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- an erasure deletes a patient's rows and blanks names in texts; its own record is never changed
    IF (TG_OP = 'DELETE' AND TG_TABLE_NAME IN ('label', 'checked_cell', 'data_split', 'dataset_image', 'drop_file_history',
                                             'slide_withdrawal')
        OR TG_OP = 'UPDATE' AND TG_TABLE_NAME IN ('label', 'label_file', 'promotion', 'approval_answer', 'drop_file_history',
                                              'slide_withdrawal'))
       AND EXISTS (SELECT FROM bloodcell.erasure WHERE erased_at = transaction_timestamp()) THEN
        RETURN NULL;
    END IF;
    -- the app may call forget_snapshot, which checks that nothing uses the snapshot; it may not delete by itself
    IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'dataset_image' AND current_setting('bloodcell.forgetting', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% on bloodcell.% is refused: the table is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege', HINT = 'Add a new row that supersedes the earlier one.';
END $$;

GRANT SELECT, INSERT (slide_id, action, renamed_to, reason, requested_by, run_id) ON bloodcell.slide_withdrawal
    TO bloodcell_app;
-- whether a slide is withdrawn, and its barcode, are not for the app to change
REVOKE INSERT, UPDATE ON bloodcell.slide FROM bloodcell_app;
GRANT INSERT (barcode, night, order_id, analyser, patient_key, acquired_at, record_state, run_id, delivered_as),
    UPDATE (order_id, analyser, patient_key, acquired_at, record_state, delivered_as) ON bloodcell.slide
    TO bloodcell_app;
"""

DOWNGRADE = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM bloodcell.slide_withdrawal) THEN
        RAISE EXCEPTION 'Slides were withdrawn or renamed, and the former schema cannot hold that: they would be reported again'
            USING HINT = 'Stay with this release, or restore the backup that was made before the upgrade.';
    END IF;
END $$;
-- refused while a barcode has been used for two slides: the former schema cannot hold them
ALTER TABLE bloodcell.slide ADD CONSTRAINT slide_barcode_key UNIQUE (barcode);
DROP INDEX bloodcell.ix_bloodcell_slide_barcode;
DROP INDEX bloodcell.slide_standing_barcode;
DROP TABLE bloodcell.slide_withdrawal;
CREATE OR REPLACE FUNCTION bloodcell.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- an erasure deletes a patient's rows and blanks names in texts; its own record is never changed
    IF (TG_OP = 'DELETE' AND TG_TABLE_NAME IN ('label', 'checked_cell', 'data_split', 'dataset_image', 'drop_file_history')
        OR TG_OP = 'UPDATE' AND TG_TABLE_NAME IN ('label', 'label_file', 'promotion', 'approval_answer', 'drop_file_history'))
       AND EXISTS (SELECT FROM bloodcell.erasure WHERE erased_at = transaction_timestamp()) THEN
        RETURN NULL;
    END IF;
    -- the app may call forget_snapshot, which checks that nothing uses the snapshot; it may not delete by itself
    IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'dataset_image' AND current_setting('bloodcell.forgetting', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% on bloodcell.% is refused: the table is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege', HINT = 'Add a new row that supersedes the earlier one.';
END $$;
DROP FUNCTION bloodcell.carry_out_withdrawal();
ALTER TABLE bloodcell.slide DROP COLUMN withdrawn_at, DROP COLUMN delivered_as;
REVOKE INSERT (barcode, night, order_id, analyser, patient_key, acquired_at, record_state, run_id),
    UPDATE (order_id, analyser, patient_key, acquired_at, record_state) ON bloodcell.slide FROM bloodcell_app;
GRANT INSERT, UPDATE ON bloodcell.slide TO bloodcell_app;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE, execution_options={"no_parameters": True})


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWNGRADE, execution_options={"no_parameters": True})
