"""A call names the code out of scope that its cell resembles, where the laboratory's model knows one."""

from alembic import op

revision = "0015"
down_revision = "0014"

_REPLACE = """
CREATE OR REPLACE FUNCTION bloodcell.replace_calls(cells bigint[], nights date[], models text[], by_run uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- in the order of the key, so that two redos of the same cells cannot deadlock
    PERFORM FROM bloodcell.cell_call k
    JOIN unnest(cells, nights, models) AS r (cell_id, night, model_id) USING (cell_id, night, model_id)
    ORDER BY k.night, k.cell_id, k.model_id FOR UPDATE OF k;
    PERFORM set_config('bloodcell.replacing', 'on', true);
    WITH replaced AS (
        DELETE FROM bloodcell.cell_call k USING unnest(cells, nights, models) AS r (cell_id, night, model_id)
        WHERE (k.night, k.cell_id, k.model_id) = (r.night, r.cell_id, r.model_id) AND k.run_id <> by_run
        RETURNING k.*
    )
    INSERT INTO bloodcell.former_call (cell_id, model_id, night, called_class, top_class, unclassified_reason,{0} confidence,
        novelty, p_basophil, p_eosinophil, p_erythroblast, p_ig, p_lymphocyte, p_monocyte, p_neutrophil, p_platelet, run_id,
        called_at, replaced_by)
    SELECT cell_id, model_id, night, called_class, top_class, unclassified_reason,{0} confidence, novelty, p_basophil,
        p_eosinophil, p_erythroblast, p_ig, p_lymphocyte, p_monocyte, p_neutrophil, p_platelet, run_id, called_at, by_run
    FROM replaced;
    PERFORM set_config('bloodcell.replacing', 'off', true);
END $$;
"""

UPGRADE = """
ALTER TABLE bloodcell.cell_call ADD COLUMN resembles TEXT,
    ADD CONSTRAINT cell_call_resembles CHECK (resembles IS NULL OR unclassified_reason = 'novel');
ALTER TABLE bloodcell.former_call ADD COLUMN resembles TEXT;
"""

DOWNGRADE = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM bloodcell.cell_call WHERE resembles IS NOT NULL)
       OR EXISTS (SELECT FROM bloodcell.former_call WHERE resembles IS NOT NULL) THEN
        RAISE EXCEPTION 'Calls name codes that their cells resemble, and the former schema cannot hold that'
            USING HINT = 'Stay with this release, or restore the backup that was made before the upgrade.';
    END IF;
END $$;
-- the views of this release read them, and every upgrade makes the views again
ALTER TABLE bloodcell.cell_call DROP COLUMN resembles CASCADE;
ALTER TABLE bloodcell.former_call DROP COLUMN resembles CASCADE;
"""


def upgrade() -> None:
    _run(UPGRADE + _REPLACE.format(" resembles,"))


def downgrade() -> None:
    _run(_REPLACE.format("") + DOWNGRADE)


def _run(statements: str) -> None:
    op.get_bind().exec_driver_sql(statements, execution_options={"no_parameters": True})
