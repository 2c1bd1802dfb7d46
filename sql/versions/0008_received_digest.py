"""Images are stored without metadata: beside the digest of what is stored, a cell keeps that of the received file.

Images of earlier releases were stored as they were received, under the same digest. Names are compared in one Unicode
form (NFC) from now on, and are brought into it, except where both forms of a name are there. Spellings of a patient key
become one patient.
"""

from alembic import op

revision = "0008"
down_revision = "0007"

UPGRADE = r"""
ALTER TABLE bloodcell.cell ADD COLUMN received_sha256 VARCHAR(64);

-- the store also has images of files that became no cell, and an erasure has to find them
ALTER TABLE bloodcell.drop_file ADD COLUMN stored_sha256 VARCHAR(64);
ALTER TABLE bloodcell.drop_file_history ADD COLUMN stored_sha256 VARCHAR(64);
CREATE INDEX drop_file_stored ON bloodcell.drop_file (stored_sha256) WHERE stored_sha256 IS NOT NULL;
CREATE OR REPLACE FUNCTION bloodcell.keep_drop_file_history() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO bloodcell.drop_file_history (night, path, outcome, reason, detail, sha256, run_id, stored_sha256)
    VALUES (OLD.night, OLD.path, OLD.outcome, OLD.reason, OLD.detail, OLD.sha256, OLD.run_id, OLD.stored_sha256);
    RETURN NULL;
END $$;
DROP TRIGGER keep_history ON bloodcell.drop_file;
CREATE TRIGGER keep_history AFTER UPDATE ON bloodcell.drop_file FOR EACH ROW
    WHEN ((OLD.outcome, OLD.reason, OLD.sha256, OLD.stored_sha256)
          IS DISTINCT FROM (NEW.outcome, NEW.reason, NEW.sha256, NEW.stored_sha256))
    EXECUTE FUNCTION bloodcell.keep_drop_file_history();

CREATE TABLE bloodcell.former_name AS SELECT slide_id, barcode, patient_key FROM bloodcell.slide;

UPDATE bloodcell.slide s SET barcode = normalize(barcode)
WHERE barcode IS NOT NORMALIZED
  AND NOT EXISTS (SELECT 1 FROM bloodcell.slide o
                  WHERE o.slide_id <> s.slide_id AND normalize(o.barcode) = normalize(s.barcode));
UPDATE bloodcell.cell c SET file_name = normalize(file_name)
WHERE file_name IS NOT NORMALIZED
  AND NOT EXISTS (SELECT 1 FROM bloodcell.cell o WHERE o.slide_id = c.slide_id AND o.cell_id <> c.cell_id
                  AND normalize(o.file_name) = normalize(c.file_name));
UPDATE bloodcell.drop_file f SET barcode = normalize(barcode)
WHERE barcode IS NOT NORMALIZED AND NOT EXISTS (SELECT 1 FROM bloodcell.slide s WHERE s.barcode = f.barcode);
UPDATE bloodcell.slide SET order_id = normalize(order_id), analyser = normalize(analyser)
WHERE order_id IS NOT NORMALIZED OR analyser IS NOT NORMALIZED;

-- the blanks are those of Python's str.strip; a key of nothing else is left as it is
UPDATE bloodcell.slide s SET patient_key = k.key
FROM bloodcell.slide o CROSS JOIN LATERAL (SELECT btrim(normalize(o.patient_key), E' \t\n\x0b\f\r\x1c\x1d\x1e\x1f\u0085\u00a0'
    '\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000') AS key) k
WHERE o.slide_id = s.slide_id AND k.key <> s.patient_key AND k.key <> '';

CREATE TABLE bloodcell.respelt_key AS
WITH spelling AS (
    SELECT f.patient_key AS former_key, s.patient_key AS split_key
    FROM bloodcell.former_name f JOIN bloodcell.slide s USING (slide_id)
    UNION SELECT 'slide:' || f.barcode, 'slide:' || s.barcode
    FROM bloodcell.former_name f JOIN bloodcell.slide s USING (slide_id)
), respelt AS (
    SELECT former_key, split_key FROM spelling WHERE former_key <> split_key
)
SELECT former_key, split_key FROM respelt UNION SELECT split_key, split_key FROM respelt;

-- Spellings of one patient become one row. If they were in different splits, a model may have been trained on some of the
-- patient's images, and what it was trained on can never judge it, nor a model that goes on from it: training comes before
-- validation, and validation before hold-out. Data sets keep the split that their images had, so an image that was in the
-- hold-out is left out of every later training.
ALTER TABLE bloodcell.data_split DISABLE TRIGGER append_only;
ALTER TABLE bloodcell.dataset_image DISABLE TRIGGER append_only;
INSERT INTO bloodcell.data_split (split_key, split, is_blind, run_id, assigned_at)
SELECT DISTINCT ON (k.split_key) k.split_key, d.split, d.is_blind, d.run_id, d.assigned_at
FROM bloodcell.respelt_key k JOIN bloodcell.data_split d ON d.split_key = k.former_key
ORDER BY k.split_key, array_position(ARRAY['training', 'validation', 'holdout'], d.split), d.assigned_at
ON CONFLICT (split_key) DO UPDATE SET split = excluded.split, is_blind = excluded.is_blind, run_id = excluded.run_id,
    assigned_at = excluded.assigned_at;
UPDATE bloodcell.dataset_image i SET split_key = k.split_key
FROM bloodcell.respelt_key k WHERE i.split_key = k.former_key AND k.former_key <> k.split_key;
DELETE FROM bloodcell.data_split d USING bloodcell.respelt_key k
WHERE d.split_key = k.former_key AND k.former_key <> k.split_key;
ALTER TABLE bloodcell.data_split ENABLE TRIGGER append_only;
ALTER TABLE bloodcell.dataset_image ENABLE TRIGGER append_only;
DROP TABLE bloodcell.former_name, bloodcell.respelt_key;
"""

DOWNGRADE = """
ALTER TABLE bloodcell.cell DROP COLUMN received_sha256;
DROP TRIGGER keep_history ON bloodcell.drop_file;
CREATE TRIGGER keep_history AFTER UPDATE ON bloodcell.drop_file FOR EACH ROW
    WHEN ((OLD.outcome, OLD.reason, OLD.sha256) IS DISTINCT FROM (NEW.outcome, NEW.reason, NEW.sha256))
    EXECUTE FUNCTION bloodcell.keep_drop_file_history();
CREATE OR REPLACE FUNCTION bloodcell.keep_drop_file_history() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO bloodcell.drop_file_history (night, path, outcome, reason, detail, sha256, run_id)
    VALUES (OLD.night, OLD.path, OLD.outcome, OLD.reason, OLD.detail, OLD.sha256, OLD.run_id);
    RETURN NULL;
END $$;
ALTER TABLE bloodcell.drop_file_history DROP COLUMN stored_sha256;
ALTER TABLE bloodcell.drop_file DROP COLUMN stored_sha256;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE, execution_options={"no_parameters": True})


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWNGRADE, execution_options={"no_parameters": True})
