"""Images are stored without metadata: beside the digest of what is stored, a cell keeps that of the received file.

Images of earlier releases were stored as they were received, under the same digest. Names are compared in one Unicode
form (NFC) from now on, and are brought into it, except where both forms of a name are there.
"""

from alembic import op

revision = "0008"
down_revision = "0007"

UPGRADE = """
ALTER TABLE bloodcell.cell ADD COLUMN received_sha256 VARCHAR(64);

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
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE, execution_options={"no_parameters": True})


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWNGRADE, execution_options={"no_parameters": True})
