"""Images are stored without metadata: beside the digest of what is stored, a cell keeps that of the received file.

Images of earlier releases were stored as they were received, under the same digest. Names are compared in one Unicode
form (NFC) from now on, and are brought into it, except where both forms of a name are there.
"""

from alembic import op

revision = "0008"
down_revision = "0007"

UPGRADE = """
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

DO $$ BEGIN
    IF current_setting('server_encoding') <> 'UTF8' THEN RETURN; END IF;
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
END $$;
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
