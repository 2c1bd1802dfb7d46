"""A retraining can calibrate the serving models for a laboratory instead of training new ones."""

from alembic import op

revision = "0014"
down_revision = "0013"

UPGRADE = """
ALTER TABLE bloodcell.training_run DROP CONSTRAINT training_run_base,
    ADD CONSTRAINT training_run_base CHECK (base IN ('champion', 'imagenet', 'site', 'random'));
"""

DOWNGRADE = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM bloodcell.training_run WHERE base = 'site') THEN
        RAISE EXCEPTION 'Models have been calibrated for a laboratory, and the former schema cannot hold that'
            USING HINT = 'Stay with this release, or restore the backup that was made before the upgrade.';
    END IF;
END $$;
ALTER TABLE bloodcell.training_run DROP CONSTRAINT training_run_base,
    ADD CONSTRAINT training_run_base CHECK (base IN ('champion', 'imagenet', 'random'));
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE, execution_options={"no_parameters": True})


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWNGRADE, execution_options={"no_parameters": True})
