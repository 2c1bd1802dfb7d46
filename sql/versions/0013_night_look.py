"""A night's images are compared with those that the champion knows, before its cells are judged."""

from alembic import op

revision = "0013"
down_revision = "0012"

UPGRADE = """
CREATE TABLE bloodcell.night_check (
    check_id BIGINT GENERATED ALWAYS AS IDENTITY NOT NULL,
    night DATE NOT NULL,
    model_id VARCHAR(64) NOT NULL,
    n_cells INTEGER NOT NULL,
    distance FLOAT,
    threshold FLOAT,
    passed BOOLEAN NOT NULL,
    reason TEXT NOT NULL,
    figures JSONB NOT NULL,
    run_id UUID NOT NULL,
    checked_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (check_id),
    FOREIGN KEY(night) REFERENCES bloodcell."drop" (night),
    FOREIGN KEY(model_id) REFERENCES bloodcell.model (model_id),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
);
CREATE INDEX night_check_night ON bloodcell.night_check (night, model_id, check_id);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON bloodcell.night_check
    FOR EACH STATEMENT EXECUTE FUNCTION bloodcell.refuse_change();
GRANT SELECT, INSERT ON bloodcell.night_check TO bloodcell_app;
"""

DOWNGRADE = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM bloodcell.night_check) THEN
        RAISE EXCEPTION 'Nights have been compared with what a model knows, and the former schema cannot hold that'
            USING HINT = 'Stay with this release, or restore the backup that was made before the upgrade.';
    END IF;
END $$;
DROP VIEW IF EXISTS bloodcell.night_look;
DROP TABLE bloodcell.night_check;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE, execution_options={"no_parameters": True})


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWNGRADE, execution_options={"no_parameters": True})
