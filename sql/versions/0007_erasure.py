"""Data can be removed: a patient's slides by the owner only and never without a record, old images and snapshots by age.

An append-only table accepts a deletion only in a transaction that has itself written a row of `erasure`, which stays.
Slides that were erased are recognised by keyed digests, so that an ingest of the same files does not bring them back.
"""

from alembic import op

revision = "0007"
down_revision = "0006"

TABLES = """
CREATE TABLE bloodcell.erasure (
    erasure_id BIGINT GENERATED ALWAYS AS IDENTITY,
    kind TEXT NOT NULL,
    reason TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    erased_by TEXT DEFAULT session_user NOT NULL,
    erased_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (erasure_id),
    CONSTRAINT erasure_kind CHECK (kind IN ('patient', 'slide')),
    CONSTRAINT erasure_reason CHECK (length(trim(reason)) > 0)
);
CREATE TABLE bloodcell.erasure_removal (
    removal_id BIGINT GENERATED ALWAYS AS IDENTITY,
    erasure_id BIGINT NOT NULL,
    part TEXT NOT NULL,
    n BIGINT NOT NULL,
    removed_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (removal_id),
    FOREIGN KEY(erasure_id) REFERENCES bloodcell.erasure (erasure_id)
);
CREATE TABLE bloodcell.erasure_dataset (
    erasure_id BIGINT NOT NULL,
    dataset_digest VARCHAR(64) NOT NULL,
    split TEXT NOT NULL,
    n_images BIGINT NOT NULL,
    PRIMARY KEY (erasure_id, dataset_digest, split),
    CONSTRAINT erasure_dataset_split CHECK (split IN ('training', 'validation', 'holdout', 'out_of_scope')),
    FOREIGN KEY(erasure_id) REFERENCES bloodcell.erasure (erasure_id),
    FOREIGN KEY(dataset_digest) REFERENCES bloodcell.dataset (dataset_digest)
);
CREATE TABLE bloodcell.erased_slide (
    erased_slide_id BIGINT GENERATED ALWAYS AS IDENTITY,
    erasure_id BIGINT NOT NULL,
    barcode BYTEA NOT NULL,
    order_id BYTEA,
    patient_key BYTEA,
    acquired_at BYTEA,
    PRIMARY KEY (erased_slide_id),
    FOREIGN KEY(erasure_id) REFERENCES bloodcell.erasure (erasure_id)
);
CREATE INDEX erased_slide_barcode ON bloodcell.erased_slide (barcode);
CREATE TABLE bloodcell.erasure_pending (
    erasure_id BIGINT NOT NULL,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (erasure_id, kind, value),
    CONSTRAINT erasure_pending_kind CHECK (kind IN ('image', 'name')),
    FOREIGN KEY(erasure_id) REFERENCES bloodcell.erasure (erasure_id)
);
CREATE TABLE bloodcell.erasure_secret (
    secret BYTEA NOT NULL,
    PRIMARY KEY (secret)
);
INSERT INTO bloodcell.erasure_secret VALUES (uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));

-- deleting a cell or a label looks for what refers to it
CREATE INDEX ix_bloodcell_dataset_image_cell_id ON bloodcell.dataset_image (cell_id);
CREATE INDEX ix_bloodcell_dataset_image_label_id ON bloodcell.dataset_image (label_id);
CREATE INDEX ix_bloodcell_checked_cell_cell_id ON bloodcell.checked_cell (cell_id);
CREATE INDEX ix_bloodcell_checked_cell_label_id ON bloodcell.checked_cell (label_id);

ALTER TABLE bloodcell.image ADD COLUMN removed_at TIMESTAMP WITH TIME ZONE;
CREATE INDEX image_removed ON bloodcell.image (sha256) WHERE removed_at IS NOT NULL;
"""

FUNCTIONS = """
CREATE FUNCTION bloodcell.erased_digest(a_kind text, a_value text) RETURNS bytea
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    -- two passes with a secret prefix, as in HMAC: without the secret, no barcode can be tried out
    SELECT sha256(secret || sha256(secret || convert_to(a_kind || ':' || normalize(a_value, NFC), 'UTF8')))
    FROM bloodcell.erasure_secret
$$;
COMMENT ON FUNCTION bloodcell.erased_digest(text, text) IS
    'Digest of a name under this database''s secret, by which an erased slide is recognised.';

CREATE FUNCTION bloodcell.is_erased(a_barcode text, an_order_id text, a_patient_key text, an_acquired_at timestamptz)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- waits for an erasure under way, whose rows the next statement then sees
    LOCK TABLE bloodcell.slide IN ROW EXCLUSIVE MODE;
    RETURN EXISTS (
        SELECT FROM bloodcell.erased_slide JOIN bloodcell.erasure USING (erasure_id)
        WHERE barcode = bloodcell.erased_digest('barcode', a_barcode)
          AND (an_acquired_at > erased_at) IS NOT TRUE
          AND (order_id = bloodcell.erased_digest('order_id', an_order_id)) IS NOT FALSE
          AND (patient_key = bloodcell.erased_digest('patient_key', a_patient_key)) IS NOT FALSE
          AND (acquired_at = bloodcell.erased_digest('acquired_at', extract(epoch FROM an_acquired_at)::text)) IS NOT FALSE
    );
END $$;
COMMENT ON FUNCTION bloodcell.is_erased(text, text, text, timestamptz) IS
    'Whether a slide was erased. The same barcode with another order, patient or time of imaging is another slide''s.';

CREATE FUNCTION bloodcell.leave_to_erasure(images text[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO bloodcell.erasure_pending (erasure_id, kind, value)
    SELECT max(e.erasure_id), 'image', i.sha256 FROM bloodcell.erasure e, unnest(images) AS i (sha256)
    GROUP BY i.sha256 ON CONFLICT DO NOTHING
$$;
COMMENT ON FUNCTION bloodcell.leave_to_erasure(text[]) IS
    'Notes images that an ingest stored while their slide was erased; an erasure removes those that nothing refers to.';

CREATE FUNCTION bloodcell.may_have_lost_images(since timestamptz) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM bloodcell.erasure_pending WHERE kind = 'image')
        OR EXISTS (SELECT FROM bloodcell.erasure_removal WHERE part = 'stored images' AND removed_at >= since)
$$;
COMMENT ON FUNCTION bloodcell.may_have_lost_images(timestamptz) IS
    'Whether an erasure may have removed images that were stored since then and had no row yet.';

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
COMMENT ON FUNCTION bloodcell.refuse_change() IS
    'Refuses every change of an append-only table, except in a transaction that has recorded an erasure.';

CREATE FUNCTION bloodcell.is_unused_snapshot(a_digest text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT NOT EXISTS (SELECT FROM bloodcell.model WHERE manifest -> 'data' ->> 'dataset_digest' = a_digest)
       AND NOT EXISTS (SELECT FROM bloodcell.evaluation WHERE dataset_digest = a_digest)
       AND NOT EXISTS (SELECT FROM bloodcell.validation WHERE dataset_digest = a_digest)
       AND NOT EXISTS (SELECT FROM bloodcell.training_run WHERE dataset_digest = a_digest AND state = 'running')
       AND a_digest <> (SELECT dataset_digest FROM bloodcell.dataset ORDER BY created_at DESC, dataset_digest LIMIT 1)
$$;
COMMENT ON FUNCTION bloodcell.is_unused_snapshot(text) IS
    'Whether no model was trained or judged on a snapshot, no retraining uses it, and it is not the newest.';

CREATE FUNCTION bloodcell.forget_snapshot(a_digest text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    n bigint := 0;
BEGIN
    IF bloodcell.is_unused_snapshot(a_digest) THEN
        PERFORM set_config('bloodcell.forgetting', 'on', true);
        DELETE FROM bloodcell.dataset_image WHERE dataset_digest = a_digest;
        GET DIAGNOSTICS n = ROW_COUNT;
        PERFORM set_config('bloodcell.forgetting', 'off', true);
    END IF;
    RETURN n;
END $$;
COMMENT ON FUNCTION bloodcell.forget_snapshot(text) IS
    'Deletes the list of images of a snapshot that nothing uses, and returns how many there were; its counts stay.';
"""

RIGHTS = """
DO $$ DECLARE name text; BEGIN
    FOREACH name IN ARRAY ARRAY['erasure', 'erasure_removal', 'erasure_dataset', 'erased_slide', 'erasure_secret'] LOOP
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON bloodcell.%I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION bloodcell.refuse_change()', name);
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION bloodcell.erased_digest(text, text), bloodcell.is_erased(text, text, text, timestamptz),
    bloodcell.leave_to_erasure(text[]), bloodcell.may_have_lost_images(timestamptz),
    bloodcell.is_unused_snapshot(text), bloodcell.forget_snapshot(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION bloodcell.is_erased(text, text, text, timestamptz), bloodcell.leave_to_erasure(text[]),
    bloodcell.may_have_lost_images(timestamptz), bloodcell.is_unused_snapshot(text), bloodcell.forget_snapshot(text)
    TO bloodcell_app;
GRANT UPDATE (removed_at) ON bloodcell.image TO bloodcell_app;
-- who was erased is for nobody to guess: of these tables, the app reads only what says how many
GRANT SELECT ON bloodcell.erasure, bloodcell.erasure_removal, bloodcell.erasure_dataset TO bloodcell_app;
"""

DOWNGRADE = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM bloodcell.erasure) THEN
        RAISE EXCEPTION 'Slides were erased, and the former schema cannot hold that: an ingest would bring them back'
            USING HINT = 'Stay with this release. A backup made before the erasure has the slides, too.';
    END IF;
END $$;
DROP FUNCTION bloodcell.is_erased(text, text, text, timestamptz);
DROP FUNCTION bloodcell.leave_to_erasure(text[]);
DROP FUNCTION bloodcell.may_have_lost_images(timestamptz);
DROP FUNCTION bloodcell.erased_digest(text, text);
DROP FUNCTION bloodcell.forget_snapshot(text);
DROP FUNCTION bloodcell.is_unused_snapshot(text);
ALTER TABLE bloodcell.image DROP COLUMN removed_at;
DROP INDEX bloodcell.ix_bloodcell_dataset_image_cell_id, bloodcell.ix_bloodcell_dataset_image_label_id,
    bloodcell.ix_bloodcell_checked_cell_cell_id, bloodcell.ix_bloodcell_checked_cell_label_id;
CREATE OR REPLACE FUNCTION bloodcell.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on bloodcell.% is refused: the table is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege', HINT = 'Add a new row that supersedes the earlier one.';
END $$;
COMMENT ON FUNCTION bloodcell.refuse_change() IS 'Refuses every change of an append-only table.';
DROP TABLE bloodcell.erasure_secret, bloodcell.erasure_pending, bloodcell.erased_slide, bloodcell.erasure_dataset,
    bloodcell.erasure_removal, bloodcell.erasure;
"""


def upgrade() -> None:
    for script in (TABLES, FUNCTIONS, RIGHTS):
        # no parameters, so % and : in the text are taken literally
        op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWNGRADE, execution_options={"no_parameters": True})
