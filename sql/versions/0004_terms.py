"""One term for each thing: columns take the names that the rest of the product uses. No row changes."""

from alembic import op

revision = "0004"
down_revision = "0003"

# columns, old name and new
RENAMED = (("side", "split"),)

UPGRADE = """
ALTER TABLE bloodcell.data_split RENAME COLUMN side TO split;
ALTER TABLE bloodcell.data_split RENAME CONSTRAINT data_split_side TO data_split_split;
ALTER TABLE bloodcell.dataset_image RENAME COLUMN side TO split;
ALTER TABLE bloodcell.dataset_image RENAME CONSTRAINT dataset_image_side TO dataset_image_split;
COMMENT ON TABLE bloodcell.data_split IS
    'The split that a patient''s cells belong to, for good; split_key is the patient_key, or slide:<barcode> where there is none. Append-only.';
COMMENT ON TABLE bloodcell.dataset IS 'A snapshot of labelled images, never changed. The digest is over every image, its class and split; left_out counts labelled cells that are not in it, by reason.';
COMMENT ON TABLE bloodcell.dataset_image IS 'An image of a data set: its split, its class, and the label that says so. Append-only.';
"""

DOWNGRADE = """
ALTER TABLE bloodcell.dataset_image RENAME CONSTRAINT dataset_image_split TO dataset_image_side;
ALTER TABLE bloodcell.dataset_image RENAME COLUMN split TO side;
ALTER TABLE bloodcell.data_split RENAME CONSTRAINT data_split_split TO data_split_side;
ALTER TABLE bloodcell.data_split RENAME COLUMN split TO side;
"""

# since Postgres 18 a NOT NULL is a constraint with a name of its own, made of the column's name
NOT_NULLS = """
DO $$ DECLARE held record;
BEGIN
    FOR held IN SELECT conrelid::regclass AS of_table, conname AS name FROM pg_constraint
                WHERE connamespace = 'bloodcell'::regnamespace AND contype = 'n' AND conname LIKE '%\\_{old}\\_not\\_null' LOOP
        EXECUTE format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', held.of_table, held.name,
                       replace(held.name, '_{old}_', '_{new}_'));
    END LOOP;
END $$;
"""


def upgrade() -> None:
    op.execute(UPGRADE)
    for old, new in RENAMED:
        op.execute(NOT_NULLS.replace("{old}", old).replace("{new}", new))


def downgrade() -> None:
    op.execute(DOWNGRADE)
    for old, new in RENAMED:
        op.execute(NOT_NULLS.replace("{old}", new).replace("{new}", old))
