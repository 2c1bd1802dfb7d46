"""One term for each thing: columns and constraints take the names that the rest of the product uses.

Existing rows stay as they are. The JSON in `evaluation.figures` and `validation.gates` is append-only and keeps its former
keys; the views read both.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

# table, former name, new name
COLUMNS = (
    ("data_split", "side", "split"),
    ("dataset_image", "side", "split"),
    ("model_check", "limit_value", "threshold"),
)
CONSTRAINTS = (
    ("data_split", "data_split_side", "data_split_split"),
    ("dataset_image", "dataset_image_side", "dataset_image_split"),
    ("label", "label_says_something", "label_not_empty"),
    ("label", "label_has_a_person", "label_labelled_by"),
    ("label", "label_not_of_the_future", "label_not_in_the_future"),
    ("label", "label_of_this_century", "label_not_before_2000"),
    ("cell_call", "cell_call_why", "cell_call_unclassified"),
)

# since Postgres 18 NOT NULL is a constraint with a name, made from the column's
NOT_NULL = """
DO $$ BEGIN
    IF EXISTS (SELECT 1 FROM pg_constraint
               WHERE conrelid = 'bloodcell.{table}'::regclass AND conname = '{table}_{old}_not_null') THEN
        ALTER TABLE bloodcell.{table} RENAME CONSTRAINT {table}_{old}_not_null TO {table}_{new}_not_null;
    END IF;
END $$
"""

# a label keeps the code where it is finer than its class or out of scope; the rule is that of bloodcell.labels
SUB_LABEL = """
ALTER TABLE bloodcell.cell_code ADD COLUMN sub_label TEXT;
ALTER TABLE bloodcell.cell_code DISABLE TRIGGER append_only;
UPDATE bloodcell.cell_code SET sub_label = code WHERE class IS NULL OR code IN ('SNE', 'BNE', 'PMY', 'MY', 'MMY');
ALTER TABLE bloodcell.cell_code ENABLE TRIGGER append_only;
ALTER TABLE bloodcell.cell_code ADD CONSTRAINT cell_code_sub_label CHECK (sub_label = code);
ALTER TABLE bloodcell.cell_code ADD CONSTRAINT cell_code_not_empty CHECK (class IS NOT NULL OR sub_label IS NOT NULL);
"""

UPGRADE_GATES = """
ALTER TRIGGER only_proved ON bloodcell.promotion RENAME TO require_passed_gates;
ALTER FUNCTION bloodcell.refuse_unproved() RENAME TO require_passed_gates;
COMMENT ON FUNCTION bloodcell.require_passed_gates() IS
    'Refuses to promote a model whose newest validation failed a gate, whoever asks.';
COMMENT ON FUNCTION bloodcell.refuse_change() IS 'Refuses every change of an append-only table.';
COMMENT ON FUNCTION bloodcell.keep_drop_file_history() IS 'Keeps the earlier outcome of a file that is examined again.';
"""
DOWNGRADE_GATES = """
ALTER TRIGGER require_passed_gates ON bloodcell.promotion RENAME TO only_proved;
ALTER FUNCTION bloodcell.require_passed_gates() RENAME TO refuse_unproved;
"""


def upgrade() -> None:
    for table, old, new in COLUMNS:
        op.execute(f"ALTER TABLE bloodcell.{table} RENAME COLUMN {old} TO {new}")
        op.execute(NOT_NULL.format(table=table, old=old, new=new))
    for table, old, new in CONSTRAINTS:
        op.execute(f"ALTER TABLE bloodcell.{table} RENAME CONSTRAINT {old} TO {new}")
    op.execute(SUB_LABEL)
    op.execute(UPGRADE_GATES)


def downgrade() -> None:
    op.execute(DOWNGRADE_GATES)
    op.execute("ALTER TABLE bloodcell.cell_code DROP COLUMN sub_label")
    for table, old, new in CONSTRAINTS:
        op.execute(f"ALTER TABLE bloodcell.{table} RENAME CONSTRAINT {new} TO {old}")
    for table, old, new in COLUMNS:
        op.execute(f"ALTER TABLE bloodcell.{table} RENAME COLUMN {new} TO {old}")
        op.execute(NOT_NULL.format(table=table, old=new, new=old))
