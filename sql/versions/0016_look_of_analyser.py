"""Images are compared with those that the champion knows for each analyser of a night, not for the night as a whole."""

from alembic import op

revision = "0016"
down_revision = "0015"

UPGRADE = """
ALTER TABLE bloodcell.night_check ADD COLUMN analyser TEXT;
-- what was found for a night was found for each of its analysers
INSERT INTO bloodcell.night_check (night, model_id, n_cells, distance, threshold, passed, reason, figures, run_id, checked_at,
    analyser)
SELECT k.night, k.model_id, k.n_cells, k.distance, k.threshold, k.passed, k.reason, k.figures, k.run_id, k.checked_at, s.analyser
FROM bloodcell.night_check k JOIN (SELECT DISTINCT night, analyser FROM bloodcell.slide WHERE analyser IS NOT NULL) s USING (night)
ORDER BY k.check_id;
"""

DOWNGRADE = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM bloodcell.night_check WHERE analyser IS NOT NULL) THEN
        RAISE EXCEPTION 'Analysers have been compared with what a model knows, and the former schema cannot hold that'
            USING HINT = 'Stay with this release, or restore the backup that was made before the upgrade.';
    END IF;
END $$;
-- the views of this release read it, and every upgrade makes the views again
ALTER TABLE bloodcell.night_check DROP COLUMN analyser CASCADE;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE, execution_options={"no_parameters": True})


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWNGRADE, execution_options={"no_parameters": True})
