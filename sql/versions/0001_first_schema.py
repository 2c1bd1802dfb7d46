"""The first schema: drops, slides, cells, the file ledger, models, calls and differentials."""

from alembic import op

revision = "0001"
down_revision = None

TABLES = """
CREATE TABLE bloodcell.drop_file_history (
    night DATE NOT NULL,
    path TEXT NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT,
    detail TEXT,
    sha256 VARCHAR(64),
    run_id UUID NOT NULL,
    replaced_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL
);
CREATE INDEX drop_file_history_path ON bloodcell.drop_file_history (night, path);
COMMENT ON TABLE bloodcell.drop_file_history IS 'What the ledger said before a file was judged again. Written by a trigger, never changed.';

CREATE TABLE bloodcell.image (
    sha256 VARCHAR(64) NOT NULL,
    size_bytes INTEGER NOT NULL,
    width_px INTEGER NOT NULL,
    height_px INTEGER NOT NULL,
    format TEXT NOT NULL,
    stored_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (sha256)
);
COMMENT ON TABLE bloodcell.image IS 'One stored image file; its bytes lie in the store under its digest.';

CREATE TABLE bloodcell.model (
    model_id VARCHAR(64) NOT NULL,
    variant TEXT NOT NULL,
    confidence_threshold FLOAT NOT NULL,
    novelty_threshold FLOAT NOT NULL,
    manifest JSONB NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    registered_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    registered_by TEXT NOT NULL,
    PRIMARY KEY (model_id),
    CONSTRAINT model_variant CHECK (variant IN ('vgg16', 'inception_v3', 'vgg16_svm', 'inception_v3_svm'))
);
COMMENT ON TABLE bloodcell.model IS 'One registered bundle; model_id is the digest of its bundle.json. Append-only.';

CREATE TABLE bloodcell.run (
    run_id UUID NOT NULL,
    stage TEXT NOT NULL,
    night DATE,
    state TEXT DEFAULT 'running' NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    code_version TEXT NOT NULL,
    host TEXT NOT NULL,
    airflow_run TEXT,
    n_cells INTEGER,
    detail JSONB,
    error TEXT,
    PRIMARY KEY (run_id),
    CONSTRAINT run_state CHECK (state IN ('running', 'succeeded', 'failed'))
);
COMMENT ON TABLE bloodcell.run IS 'One execution of a stage: which code, where, when, and how it ended.';

CREATE TABLE bloodcell.drop (
    night DATE NOT NULL,
    folder TEXT NOT NULL,
    completed_at TIMESTAMP WITH TIME ZONE,
    folders_changed_ns BIGINT,
    first_seen_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    run_id UUID NOT NULL,
    PRIMARY KEY (night),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
);
COMMENT ON TABLE bloodcell.drop IS 'One night''s folder from the analysers; completed_at is set once every slide of it was read, folders_changed_ns says of which state of the folder that is true.';

CREATE TABLE bloodcell.promotion (
    promotion_id BIGINT GENERATED ALWAYS AS IDENTITY,
    model_id VARCHAR(64) NOT NULL,
    action TEXT NOT NULL,
    promoted_by TEXT NOT NULL,
    promoted_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    reason TEXT NOT NULL,
    evidence JSONB DEFAULT '{}'::jsonb NOT NULL,
    PRIMARY KEY (promotion_id),
    CONSTRAINT promotion_action CHECK (action IN ('promote', 'rollback')),
    CONSTRAINT promotion_reason CHECK (length(trim(reason)) > 0),
    FOREIGN KEY(model_id) REFERENCES bloodcell.model (model_id)
);
COMMENT ON TABLE bloodcell.promotion IS 'Which model became champion, who said so, when, why, on what evidence. Append-only; the last row rules.';

CREATE TABLE bloodcell.slide (
    slide_id BIGINT GENERATED ALWAYS AS IDENTITY,
    barcode TEXT NOT NULL,
    night DATE NOT NULL,
    order_id TEXT,
    analyser TEXT,
    patient_key TEXT,
    acquired_at TIMESTAMP WITH TIME ZONE,
    record_state TEXT NOT NULL,
    run_id UUID NOT NULL,
    PRIMARY KEY (slide_id),
    CONSTRAINT slide_record_state CHECK (record_state IN ('read', 'absent', 'unreadable')),
    UNIQUE (barcode),
    FOREIGN KEY(night) REFERENCES bloodcell.drop (night),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
);
CREATE INDEX ix_bloodcell_slide_night ON bloodcell.slide (night);
CREATE INDEX ix_bloodcell_slide_patient_key ON bloodcell.slide (patient_key);
COMMENT ON TABLE bloodcell.slide IS 'One smear, named by its barcode; night is the first night that brought cells of it.';

CREATE TABLE bloodcell.cell (
    cell_id BIGINT GENERATED ALWAYS AS IDENTITY,
    slide_id BIGINT NOT NULL,
    file_name TEXT NOT NULL,
    night DATE NOT NULL,
    sha256 VARCHAR(64) NOT NULL,
    analyser_code TEXT,
    analyser_class TEXT,
    run_id UUID NOT NULL,
    PRIMARY KEY (cell_id),
    CONSTRAINT cell_once_per_file UNIQUE (slide_id, file_name),
    CONSTRAINT cell_once_per_image UNIQUE (slide_id, sha256),
    CONSTRAINT cell_and_night UNIQUE (cell_id, night),
    CONSTRAINT cell_analyser_class CHECK (analyser_class IN ('basophil', 'eosinophil', 'erythroblast', 'ig', 'lymphocyte', 'monocyte', 'neutrophil', 'platelet')),
    FOREIGN KEY(slide_id) REFERENCES bloodcell.slide (slide_id),
    FOREIGN KEY(night) REFERENCES bloodcell.drop (night),
    FOREIGN KEY(sha256) REFERENCES bloodcell.image (sha256),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
);
CREATE INDEX ix_bloodcell_cell_night ON bloodcell.cell (night);
CREATE INDEX ix_bloodcell_cell_sha256 ON bloodcell.cell (sha256);
COMMENT ON TABLE bloodcell.cell IS 'One image of one cell of a slide. The analyser''s code is kept and compared with, never fed to a model.';

CREATE TABLE bloodcell.slide_report (
    slide_id BIGINT NOT NULL,
    model_id VARCHAR(64) NOT NULL,
    n_cells INTEGER NOT NULL,
    n_leucocytes INTEGER NOT NULL,
    n_unclassified INTEGER NOT NULL,
    is_sufficient BOOLEAN NOT NULL,
    nrbc_per_100_wbc FLOAT,
    nrbc_lower FLOAT,
    nrbc_upper FLOAT,
    n_compared INTEGER NOT NULL,
    n_agree INTEGER NOT NULL,
    run_id UUID NOT NULL,
    written_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (slide_id, model_id),
    FOREIGN KEY(slide_id) REFERENCES bloodcell.slide (slide_id),
    FOREIGN KEY(model_id) REFERENCES bloodcell.model (model_id),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
);
COMMENT ON TABLE bloodcell.slide_report IS 'What a slide''s calls by one model add up to; n_compared and n_agree: against the analyser''s own class.';

CREATE TABLE bloodcell.cell_call (
    cell_id BIGINT NOT NULL,
    model_id VARCHAR(64) NOT NULL,
    night DATE NOT NULL,
    called_class TEXT NOT NULL,
    top_class TEXT NOT NULL,
    unclassified_reason TEXT,
    confidence REAL NOT NULL,
    novelty REAL NOT NULL,
    p_basophil REAL NOT NULL,
    p_eosinophil REAL NOT NULL,
    p_erythroblast REAL NOT NULL,
    p_ig REAL NOT NULL,
    p_lymphocyte REAL NOT NULL,
    p_monocyte REAL NOT NULL,
    p_neutrophil REAL NOT NULL,
    p_platelet REAL NOT NULL,
    run_id UUID NOT NULL,
    called_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (night, cell_id, model_id),
    FOREIGN KEY(cell_id, night) REFERENCES bloodcell.cell (cell_id, night),
    CONSTRAINT cell_call_class CHECK (called_class IN ('basophil', 'eosinophil', 'erythroblast', 'ig', 'lymphocyte', 'monocyte', 'neutrophil', 'platelet', 'unclassified')),
    CONSTRAINT cell_call_top_class CHECK (top_class IN ('basophil', 'eosinophil', 'erythroblast', 'ig', 'lymphocyte', 'monocyte', 'neutrophil', 'platelet')),
    CONSTRAINT cell_call_reason CHECK (unclassified_reason IN ('low_confidence', 'novel')),
    CONSTRAINT cell_call_why CHECK ((called_class = 'unclassified') = (unclassified_reason IS NOT NULL)),
    CONSTRAINT cell_call_confidence CHECK (confidence BETWEEN 0 AND 1),
    FOREIGN KEY(model_id) REFERENCES bloodcell.model (model_id),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
)
 PARTITION BY RANGE (night);
COMMENT ON TABLE bloodcell.cell_call IS 'What one model says of one cell. Partitioned by month of the night.';

CREATE TABLE bloodcell.differential (
    slide_id BIGINT NOT NULL,
    model_id VARCHAR(64) NOT NULL,
    class TEXT NOT NULL,
    n_cells INTEGER NOT NULL,
    percentage FLOAT,
    lower FLOAT,
    upper FLOAT,
    flag TEXT,
    PRIMARY KEY (slide_id, model_id, class),
    FOREIGN KEY(slide_id, model_id) REFERENCES bloodcell.slide_report (slide_id, model_id) ON DELETE CASCADE,
    CONSTRAINT differential_class CHECK (class IN ('basophil', 'eosinophil', 'erythroblast', 'ig', 'lymphocyte', 'monocyte', 'neutrophil', 'platelet', 'unclassified'))
);
COMMENT ON TABLE bloodcell.differential IS 'A slide''s count by class and model; percentage of leucocytes with exact 95 % limits for the six groups.';

CREATE TABLE bloodcell.drop_file (
    night DATE NOT NULL,
    path TEXT NOT NULL,
    barcode TEXT,
    outcome TEXT NOT NULL,
    reason TEXT,
    detail TEXT,
    cell_id BIGINT,
    sha256 VARCHAR(64),
    size_bytes BIGINT NOT NULL,
    changed_ns BIGINT NOT NULL,
    run_id UUID NOT NULL,
    first_seen_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (night, path),
    CONSTRAINT drop_file_outcome CHECK (outcome IN ('cell', 'duplicate', 'quarantined', 'ignored')),
    CONSTRAINT drop_file_cell CHECK ((outcome IN ('cell', 'duplicate')) <= (cell_id IS NOT NULL)),
    CONSTRAINT drop_file_reason CHECK ((outcome <> 'cell') <= (reason IS NOT NULL)),
    FOREIGN KEY(night) REFERENCES bloodcell.drop (night),
    FOREIGN KEY(cell_id) REFERENCES bloodcell.cell (cell_id),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
);
CREATE INDEX drop_file_barcode ON bloodcell.drop_file (barcode);
CREATE INDEX ix_bloodcell_drop_file_cell_id ON bloodcell.drop_file (cell_id);
COMMENT ON TABLE bloodcell.drop_file IS 'The ledger: every file of a night''s folder, accounted for exactly once. path is relative to the folder.';
"""

PARTITIONS = """
CREATE FUNCTION bloodcell.ensure_call_partition(a_night date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    first_day date := date_trunc('month', a_night)::date;
    name text := 'cell_call_' || to_char(a_night, 'YYYY_MM');
BEGIN
    IF to_regclass('bloodcell.' || name) IS NULL THEN
        PERFORM pg_advisory_xact_lock(hashtext('bloodcell.' || name));
        EXECUTE format('CREATE TABLE IF NOT EXISTS bloodcell.%I PARTITION OF bloodcell.cell_call '
                       'FOR VALUES FROM (%L) TO (%L)', name, first_day, (first_day + interval '1 month')::date);
    END IF;
END $$;
REVOKE ALL ON FUNCTION bloodcell.ensure_call_partition(date) FROM PUBLIC;
COMMENT ON FUNCTION bloodcell.ensure_call_partition(date) IS 'Makes the month''s partition of cell_call if missing.';
"""

TRIGGERS = """
CREATE FUNCTION bloodcell.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on bloodcell.% is refused: the table is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege', HINT = 'Add a new row that supersedes the earlier one.';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON bloodcell.model
    FOR EACH STATEMENT EXECUTE FUNCTION bloodcell.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON bloodcell.promotion
    FOR EACH STATEMENT EXECUTE FUNCTION bloodcell.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON bloodcell.drop_file_history
    FOR EACH STATEMENT EXECUTE FUNCTION bloodcell.refuse_change();

CREATE FUNCTION bloodcell.keep_drop_file_history() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO bloodcell.drop_file_history (night, path, outcome, reason, detail, sha256, run_id)
    VALUES (OLD.night, OLD.path, OLD.outcome, OLD.reason, OLD.detail, OLD.sha256, OLD.run_id);
    RETURN NULL;
END $$;
CREATE TRIGGER keep_history AFTER UPDATE ON bloodcell.drop_file FOR EACH ROW
    WHEN ((OLD.outcome, OLD.reason, OLD.sha256) IS DISTINCT FROM (NEW.outcome, NEW.reason, NEW.sha256))
    EXECUTE FUNCTION bloodcell.keep_drop_file_history();
-- or anyone could hang it on a table of his own and write history
REVOKE ALL ON FUNCTION bloodcell.keep_drop_file_history(), bloodcell.refuse_change() FROM PUBLIC;
"""

RIGHTS = """
GRANT USAGE ON SCHEMA bloodcell TO bloodcell_app, bloodcell_reviewer, bloodcell_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA bloodcell TO bloodcell_app;
GRANT INSERT ON bloodcell.run, bloodcell.drop, bloodcell.slide, bloodcell.image, bloodcell.cell, bloodcell.drop_file,
    bloodcell.model, bloodcell.promotion, bloodcell.cell_call, bloodcell.slide_report, bloodcell.differential
    TO bloodcell_app;
GRANT UPDATE ON bloodcell.run, bloodcell.drop, bloodcell.slide, bloodcell.drop_file, bloodcell.cell_call,
    bloodcell.slide_report, bloodcell.differential TO bloodcell_app;
GRANT EXECUTE ON FUNCTION bloodcell.ensure_call_partition(date) TO bloodcell_app;
"""


def upgrade() -> None:
    for script in (TABLES, PARTITIONS, TRIGGERS, RIGHTS):
        # no parameters, so % and : in the text are taken literally
        op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise RuntimeError("Nothing comes before the first schema. To go back, restore a backup.")
