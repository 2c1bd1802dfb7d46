"""Evidence that cannot flatter: a recorded random sample of each night, which alone judges models, and a lockbox.

Labels of chosen cells (from the review queue, or because two models disagree) say how good a model is on hard cells. Only
cells that were drawn by chance, and read without a call in sight, say how good it is.
"""

from alembic import op

revision = "0011"
down_revision = "0010"

TABLES = """
CREATE TABLE bloodcell.sampled_cell (
    cell_id BIGINT NOT NULL,
    night DATE NOT NULL,
    is_read_twice BOOLEAN NOT NULL,
    run_id UUID,
    drawn_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (cell_id),
    FOREIGN KEY(cell_id) REFERENCES bloodcell.cell (cell_id),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
);
CREATE INDEX ix_bloodcell_sampled_cell_night ON bloodcell.sampled_cell (night);

CREATE TABLE bloodcell.lockbox_opening (
    opening_id BIGINT GENERATED ALWAYS AS IDENTITY NOT NULL,
    model_id VARCHAR(64) NOT NULL,
    champion_id VARCHAR(64),
    dataset_digest VARCHAR(64) NOT NULL,
    n_cells INTEGER NOT NULL,
    n_patients INTEGER NOT NULL,
    accuracy FLOAT NOT NULL,
    champion_accuracy FLOAT,
    difference FLOAT,
    lower FLOAT,
    upper FLOAT,
    passed BOOLEAN NOT NULL,
    reason TEXT NOT NULL,
    run_id UUID NOT NULL,
    opened_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (opening_id),
    FOREIGN KEY(model_id) REFERENCES bloodcell.model (model_id),
    FOREIGN KEY(champion_id) REFERENCES bloodcell.model (model_id),
    FOREIGN KEY(dataset_digest) REFERENCES bloodcell.dataset (dataset_digest),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
);
CREATE UNIQUE INDEX lockbox_opening_once
    ON bloodcell.lockbox_opening (model_id, coalesce(champion_id, ''), dataset_digest);

ALTER TABLE bloodcell.data_split DROP CONSTRAINT data_split_split;
ALTER TABLE bloodcell.data_split ADD CONSTRAINT data_split_split
    CHECK (split IN ('training', 'validation', 'holdout', 'lockbox'));
ALTER TABLE bloodcell.dataset_image DROP CONSTRAINT dataset_image_split;
ALTER TABLE bloodcell.dataset_image ADD CONSTRAINT dataset_image_split
    CHECK (split IN ('training', 'validation', 'holdout', 'lockbox', 'out_of_scope'));
ALTER TABLE bloodcell.erasure_dataset DROP CONSTRAINT erasure_dataset_split;
ALTER TABLE bloodcell.erasure_dataset ADD CONSTRAINT erasure_dataset_split
    CHECK (split IN ('training', 'validation', 'holdout', 'lockbox', 'out_of_scope'));
ALTER TABLE bloodcell.dataset ADD COLUMN n_lockbox INTEGER DEFAULT 0 NOT NULL;
ALTER TABLE bloodcell.model_check DROP CONSTRAINT model_check_kind;
ALTER TABLE bloodcell.model_check ADD CONSTRAINT model_check_kind CHECK (kind IN ('agreement', 'blind_agreement',
    'precision', 'unclassified', 'out_of_scope', 'class_mix', 'confidence', 'novelty', 'embedding'));
"""

REFUSE_CHANGE = """
CREATE OR REPLACE FUNCTION bloodcell.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- an erasure deletes a patient's rows and blanks names in texts; its own record is never changed
    IF (TG_OP = 'DELETE' AND TG_TABLE_NAME IN ('label', 'checked_cell', 'data_split', 'dataset_image', 'drop_file_history',
                                             'slide_withdrawal', 'cell_call', 'former_call', 'slide_report', 'differential',
                                             'result', 'sampled_cell')
        OR TG_OP = 'UPDATE' AND TG_TABLE_NAME IN ('label', 'label_file', 'promotion', 'approval_answer', 'drop_file_history',
                                              'slide_withdrawal', 'result'))
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

RULES = """
DO $$ DECLARE name text; BEGIN
    FOREACH name IN ARRAY ARRAY['sampled_cell', 'lockbox_opening'] LOOP
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON bloodcell.%I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION bloodcell.refuse_change()', name);
    END LOOP;
END $$;

-- A digest of image and cell is as good as a random number, the same on every machine, and independent of every call. A cell
-- that arrives after the draw is added if it is among the lowest of the whole night; what was drawn stays.
CREATE FUNCTION bloodcell.draw_sample(a_night date, n_wanted integer, a_run uuid) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    n_drawn integer;
BEGIN
    PERFORM FROM bloodcell."drop" WHERE night = a_night FOR UPDATE;
    -- an ingest that brought nothing has no reason to compute a million digests
    IF (SELECT count(*) FROM bloodcell.sampled_cell WHERE night = a_night) >= n_wanted
       AND NOT EXISTS (SELECT 1 FROM bloodcell.cell WHERE night = a_night AND run_id = a_run) THEN
        RETURN 0;
    END IF;
    INSERT INTO bloodcell.sampled_cell (cell_id, night, is_read_twice, run_id)
    SELECT cell_id, a_night, right(key, 1) < '4', a_run
    FROM (SELECT c.cell_id,
                 encode(sha256(convert_to(c.sha256 || ' ' || c.cell_id, 'UTF8')), 'hex') COLLATE "C" AS key
          FROM bloodcell.cell c JOIN bloodcell.slide s USING (slide_id)
          WHERE c.night = a_night AND s.withdrawn_at IS NULL
          ORDER BY key LIMIT n_wanted) lowest
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS n_drawn = ROW_COUNT;
    RETURN n_drawn;
END $$;
REVOKE ALL ON FUNCTION bloodcell.draw_sample(date, integer, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION bloodcell.draw_sample(date, integer, uuid) TO bloodcell_app;
COMMENT ON FUNCTION bloodcell.draw_sample(date, integer, uuid) IS
    'Draws a night''s random sample of cells for blind reading, once; returns the number of cells drawn now.';

CREATE OR REPLACE FUNCTION bloodcell.require_passed_gates() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    newest bloodcell.validation;
    why text;
BEGIN
    SELECT * INTO newest FROM bloodcell.validation WHERE model_id = NEW.model_id
    ORDER BY validated_at DESC, validation_id LIMIT 1;
    IF NOT FOUND THEN
        RETURN NEW;
    END IF;
    SELECT string_agg(gate ->> 'reason', '; ') INTO why FROM jsonb_array_elements(newest.gates) gate
    WHERE NOT (gate ->> 'passed')::boolean;
    IF why IS NOT NULL OR NOT newest.passed THEN
        RAISE EXCEPTION 'Model % is refused by its gates: %', left(NEW.model_id, 12), coalesce(why, 'not passed')
            USING ERRCODE = 'check_violation', HINT = 'Retrain with more or better labels; the champion stays.';
    END IF;
    -- an earlier release judged by fewer gates; a model that was champion before has proved itself in use
    SELECT string_agg(name, ', ') INTO why
    FROM unnest(ARRAY['enough_holdout_cells', 'enough_holdout_patients', 'not_worse_overall', 'no_class_worse',
                      'no_class_less_precise', 'no_class_more_unclassified', 'not_more_unclassified',
                      'out_of_scope_held_back', 'calibrated', 'not_worse_than_anchor']) name
    WHERE NOT newest.gates @> jsonb_build_array(jsonb_build_object('gate', name))
      AND NOT EXISTS (SELECT FROM bloodcell.promotion p WHERE p.model_id = NEW.model_id);
    IF why IS NOT NULL THEN
        RAISE EXCEPTION 'Model % was validated without the gates %', left(NEW.model_id, 12), why
            USING ERRCODE = 'check_violation', HINT = 'bloodcell models validate';
    END IF;
    SELECT string_agg(reason, '; ') INTO why FROM bloodcell.lockbox_opening
    WHERE model_id = NEW.model_id AND dataset_digest = newest.dataset_digest AND NOT passed;
    IF why IS NOT NULL THEN
        RAISE EXCEPTION 'Model % is refused by the lockbox: %', left(NEW.model_id, 12), why
            USING ERRCODE = 'check_violation', HINT = 'Retrain with more or better labels; the champion stays.';
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION bloodcell.require_passed_gates() IS
    'Refuses the promotion of a model whose newest validation failed a gate or lacks one, or which the lockbox contradicts.';

GRANT SELECT ON bloodcell.sampled_cell TO bloodcell_app;
GRANT SELECT, INSERT ON bloodcell.lockbox_opening TO bloodcell_app;
"""

# 20 cells of each night that is there already: the default of BLOODCELL_SAMPLE_CELLS
DRAW = """
SELECT bloodcell.draw_sample(night, 20, NULL) FROM bloodcell."drop" ORDER BY night
"""

DOWNGRADE = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM bloodcell.data_split WHERE split = 'lockbox')
       OR EXISTS (SELECT FROM bloodcell.erasure_dataset WHERE split = 'lockbox')
       OR EXISTS (SELECT FROM bloodcell.lockbox_opening)
       OR EXISTS (SELECT FROM bloodcell.model_check WHERE kind = 'precision') THEN
        RAISE EXCEPTION 'There is a lockbox, or a check has judged precision, and the former schema cannot hold that'
            USING HINT = 'Stay with this release, or restore the backup that was made before the upgrade.';
    END IF;
END $$;
ALTER TABLE bloodcell.model_check DROP CONSTRAINT model_check_kind;
ALTER TABLE bloodcell.model_check ADD CONSTRAINT model_check_kind CHECK (kind IN ('agreement', 'blind_agreement',
    'unclassified', 'out_of_scope', 'class_mix', 'confidence', 'novelty', 'embedding'));
ALTER TABLE bloodcell.dataset DROP COLUMN n_lockbox;
ALTER TABLE bloodcell.dataset_image DROP CONSTRAINT dataset_image_split;
ALTER TABLE bloodcell.dataset_image ADD CONSTRAINT dataset_image_split
    CHECK (split IN ('training', 'validation', 'holdout', 'out_of_scope'));
ALTER TABLE bloodcell.erasure_dataset DROP CONSTRAINT erasure_dataset_split;
ALTER TABLE bloodcell.erasure_dataset ADD CONSTRAINT erasure_dataset_split
    CHECK (split IN ('training', 'validation', 'holdout', 'out_of_scope'));
ALTER TABLE bloodcell.data_split DROP CONSTRAINT data_split_split;
ALTER TABLE bloodcell.data_split ADD CONSTRAINT data_split_split CHECK (split IN ('training', 'validation', 'holdout'));
-- the same cells would be drawn again
DROP FUNCTION bloodcell.draw_sample(date, integer, uuid);
DROP TABLE bloodcell.sampled_cell;
DROP TABLE bloodcell.lockbox_opening;
CREATE OR REPLACE FUNCTION bloodcell.require_passed_gates() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    failed text;
BEGIN
    SELECT string_agg(gate ->> 'reason', '; ') INTO failed
    FROM (SELECT gates FROM bloodcell.validation WHERE model_id = NEW.model_id
          ORDER BY validated_at DESC, validation_id LIMIT 1) newest, jsonb_array_elements(newest.gates) gate
    WHERE NOT (gate ->> 'passed')::boolean;
    IF failed IS NOT NULL THEN
        RAISE EXCEPTION 'Model % is refused by its gates: %', left(NEW.model_id, 12), failed
            USING ERRCODE = 'check_violation', HINT = 'Retrain with more or better labels; the champion stays.';
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE FUNCTION bloodcell.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- an erasure deletes a patient's rows and blanks names in texts; its own record is never changed
    IF (TG_OP = 'DELETE' AND TG_TABLE_NAME IN ('label', 'checked_cell', 'data_split', 'dataset_image', 'drop_file_history',
                                             'slide_withdrawal', 'cell_call', 'former_call', 'slide_report', 'differential',
                                             'result')
        OR TG_OP = 'UPDATE' AND TG_TABLE_NAME IN ('label', 'label_file', 'promotion', 'approval_answer', 'drop_file_history',
                                              'slide_withdrawal', 'result'))
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


def upgrade() -> None:
    for script in (TABLES, REFUSE_CHANGE, RULES, DRAW):
        op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWNGRADE, execution_options={"no_parameters": True})
