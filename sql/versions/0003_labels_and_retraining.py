"""Labels, the split by patient, data sets, retraining runs, evaluations, gates, and the nightly check of the champion."""

from alembic import op

revision = "0003"
down_revision = "0002"

TABLES = """
CREATE TABLE bloodcell.cell_code (
    code TEXT NOT NULL,
    class TEXT,
    name TEXT NOT NULL,
    PRIMARY KEY (code),
    CONSTRAINT cell_code_class CHECK (class IN ('basophil', 'eosinophil', 'erythroblast', 'ig', 'lymphocyte', 'monocyte', 'neutrophil', 'platelet'))
);
COMMENT ON TABLE bloodcell.cell_code IS 'The analyser''s codes that a person may label a cell with; class is empty for those outside the eight groups.';

CREATE TABLE bloodcell.data_split (
    split_key TEXT NOT NULL,
    side TEXT NOT NULL,
    is_blind BOOLEAN NOT NULL,
    run_id UUID NOT NULL,
    assigned_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (split_key),
    CONSTRAINT data_split_side CHECK (side IN ('training', 'validation', 'holdout')),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
);
COMMENT ON TABLE bloodcell.data_split IS 'On which side a patient''s cells are, for good; split_key is the patient_key, or slide:<barcode> where there is none. Append-only.';

CREATE TABLE bloodcell.dataset (
    dataset_digest VARCHAR(64) NOT NULL,
    n_training INTEGER NOT NULL,
    n_validation INTEGER NOT NULL,
    n_holdout INTEGER NOT NULL,
    n_out_of_scope INTEGER NOT NULL,
    until_label_id BIGINT NOT NULL,
    left_out JSONB NOT NULL,
    run_id UUID NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (dataset_digest),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
);
COMMENT ON TABLE bloodcell.dataset IS 'A snapshot of labelled images, never changed. The digest is over every image, its class and side; left_out counts labelled cells that are not in it, by reason.';

CREATE TABLE bloodcell.label_file (
    path TEXT NOT NULL,
    sha256 VARCHAR(64) NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT,
    n_rows INTEGER NOT NULL,
    n_labels INTEGER NOT NULL,
    run_id UUID NOT NULL,
    seen_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (path, sha256, run_id),
    CONSTRAINT label_file_outcome CHECK (outcome IN ('imported', 'quarantined')),
    CONSTRAINT label_file_reason CHECK ((outcome <> 'imported') <= (reason IS NOT NULL)),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
);
COMMENT ON TABLE bloodcell.label_file IS 'The ledger of the label inbox: every file by its content, imported or set aside with the reason. One set aside for cells that are not there is judged again after an ingest: the newest row rules.';

CREATE TABLE bloodcell.model_check (
    check_id BIGINT GENERATED ALWAYS AS IDENTITY,
    model_id VARCHAR(64) NOT NULL,
    kind TEXT NOT NULL,
    class TEXT,
    n_cells INTEGER NOT NULL,
    measured FLOAT,
    lower FLOAT,
    upper FLOAT,
    limit_value FLOAT,
    passed BOOLEAN NOT NULL,
    reason TEXT NOT NULL,
    until_label_id BIGINT NOT NULL,
    since_night DATE,
    until_night DATE,
    run_id UUID NOT NULL,
    checked_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (check_id),
    CONSTRAINT model_check_kind CHECK (kind IN ('agreement', 'blind_agreement', 'unclassified', 'out_of_scope', 'class_mix', 'confidence', 'novelty', 'embedding')),
    FOREIGN KEY(model_id) REFERENCES bloodcell.model (model_id),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
);
COMMENT ON TABLE bloodcell.model_check IS 'A nightly look at the champion: agreement with new labels, drift from its training reference. Append-only.';

CREATE TABLE bloodcell.evaluation (
    model_id VARCHAR(64) NOT NULL,
    dataset_digest VARCHAR(64) NOT NULL,
    n_cells INTEGER NOT NULL,
    n_patients INTEGER NOT NULL,
    accuracy FLOAT NOT NULL,
    accuracy_lower FLOAT NOT NULL,
    accuracy_upper FLOAT NOT NULL,
    macro_f1 FLOAT NOT NULL,
    calibration_error FLOAT NOT NULL,
    unclassified FLOAT NOT NULL,
    figures JSONB NOT NULL,
    run_id UUID NOT NULL,
    evaluated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (model_id, dataset_digest),
    FOREIGN KEY(model_id) REFERENCES bloodcell.model (model_id),
    FOREIGN KEY(dataset_digest) REFERENCES bloodcell.dataset (dataset_digest),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
);
COMMENT ON TABLE bloodcell.evaluation IS 'How good a model is on a data set''s hold-out; figures has the confusion matrix and each class''s precision, sensitivity and specificity with limits. Append-only.';

CREATE TABLE bloodcell.training_run (
    training_run_id UUID NOT NULL,
    airflow_run TEXT,
    requested_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    variants TEXT[] NOT NULL,
    base TEXT NOT NULL,
    seed INTEGER NOT NULL,
    epochs INTEGER,
    min_new_labels INTEGER NOT NULL,
    champion_id VARCHAR(64),
    dataset_digest VARCHAR(64),
    state TEXT DEFAULT 'running' NOT NULL,
    state_reason TEXT,
    approval JSONB,
    requested_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (training_run_id),
    CONSTRAINT training_run_state CHECK (state IN ('running', 'skipped', 'refused', 'rejected', 'expired', 'promoted', 'failed')),
    CONSTRAINT training_run_base CHECK (base IN ('champion', 'imagenet', 'random')),
    FOREIGN KEY(champion_id) REFERENCES bloodcell.model (model_id),
    FOREIGN KEY(dataset_digest) REFERENCES bloodcell.dataset (dataset_digest)
);
COMMENT ON TABLE bloodcell.training_run IS 'One retraining: what was asked, by whom, on which data set, against which champion, and how it ended.';

CREATE TABLE bloodcell.candidate (
    training_run_id UUID NOT NULL,
    variant TEXT NOT NULL,
    model_id VARCHAR(64) NOT NULL,
    run_id UUID NOT NULL,
    trained_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (training_run_id, variant),
    CONSTRAINT candidate_variant CHECK (variant IN ('vgg16', 'inception_v3', 'vgg16_svm', 'inception_v3_svm')),
    FOREIGN KEY(training_run_id) REFERENCES bloodcell.training_run (training_run_id),
    FOREIGN KEY(model_id) REFERENCES bloodcell.model (model_id),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
);
COMMENT ON TABLE bloodcell.candidate IS 'The model that a retraining made of a variant. Append-only.';

CREATE TABLE bloodcell.validation (
    validation_id UUID NOT NULL,
    training_run_id UUID,
    model_id VARCHAR(64) NOT NULL,
    champion_id VARCHAR(64),
    dataset_digest VARCHAR(64) NOT NULL,
    passed BOOLEAN NOT NULL,
    gates JSONB NOT NULL,
    report TEXT NOT NULL,
    run_id UUID NOT NULL,
    validated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (validation_id),
    CONSTRAINT validation_once UNIQUE (training_run_id, model_id),
    FOREIGN KEY(training_run_id) REFERENCES bloodcell.training_run (training_run_id),
    FOREIGN KEY(model_id) REFERENCES bloodcell.model (model_id),
    FOREIGN KEY(champion_id) REFERENCES bloodcell.model (model_id),
    FOREIGN KEY(dataset_digest) REFERENCES bloodcell.dataset (dataset_digest),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
);
COMMENT ON TABLE bloodcell.validation IS 'A model judged against the champion on a hold-out: every gate, passed or not, measured, limit and reason; report is the page in the store. The newest of a model rules. Append-only.';

CREATE TABLE bloodcell.label (
    label_id BIGINT GENERATED ALWAYS AS IDENTITY,
    cell_id BIGINT NOT NULL,
    class TEXT,
    sub_label TEXT,
    labelled_by TEXT NOT NULL,
    labelled_at TIMESTAMP WITH TIME ZONE NOT NULL,
    is_blind BOOLEAN NOT NULL,
    is_adjudication BOOLEAN DEFAULT false NOT NULL,
    note TEXT,
    source TEXT NOT NULL,
    run_id UUID,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    recorded_by TEXT DEFAULT session_user NOT NULL,
    PRIMARY KEY (label_id),
    CONSTRAINT label_once UNIQUE (cell_id, labelled_by, labelled_at),
    CONSTRAINT label_class CHECK (class IN ('basophil', 'eosinophil', 'erythroblast', 'ig', 'lymphocyte', 'monocyte', 'neutrophil', 'platelet')),
    CONSTRAINT label_source CHECK (source IN ('csv', 'folder', 'view')),
    CONSTRAINT label_says_something CHECK (class IS NOT NULL OR sub_label IS NOT NULL),
    CONSTRAINT label_has_a_person CHECK (length(trim(labelled_by)) > 0),
    CONSTRAINT label_not_of_the_future CHECK (labelled_at <= recorded_at + interval '5 minutes'),
    CONSTRAINT label_of_this_century CHECK (labelled_at >= '2000-01-01 00:00:00+00'),
    FOREIGN KEY(cell_id) REFERENCES bloodcell.cell (cell_id),
    FOREIGN KEY(sub_label) REFERENCES bloodcell.cell_code (code),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
);
CREATE INDEX label_adjudication ON bloodcell.label (cell_id) WHERE is_adjudication;
COMMENT ON TABLE bloodcell.label IS 'What a person says of a cell. Append-only: a correction is a new row. class is empty for a code outside the eight groups; sub_label is the finer code (SNE, BNE, PMY ...).';

CREATE TABLE bloodcell.checked_cell (
    model_id VARCHAR(64) NOT NULL,
    cell_id BIGINT NOT NULL,
    label_id BIGINT NOT NULL,
    class TEXT,
    called_class TEXT NOT NULL,
    is_blind BOOLEAN NOT NULL,
    is_training BOOLEAN NOT NULL,
    run_id UUID NOT NULL,
    PRIMARY KEY (model_id, cell_id),
    CONSTRAINT checked_cell_class CHECK (class IN ('basophil', 'eosinophil', 'erythroblast', 'ig', 'lymphocyte', 'monocyte', 'neutrophil', 'platelet')),
    FOREIGN KEY(model_id) REFERENCES bloodcell.model (model_id),
    FOREIGN KEY(cell_id) REFERENCES bloodcell.cell (cell_id),
    FOREIGN KEY(label_id) REFERENCES bloodcell.label (label_id),
    FOREIGN KEY(run_id) REFERENCES bloodcell.run (run_id)
);
COMMENT ON TABLE bloodcell.checked_cell IS 'A labelled cell that a check compared a model''s call with, once each model; class is empty for a label outside the eight groups. Append-only.';

CREATE TABLE bloodcell.dataset_image (
    dataset_digest VARCHAR(64) NOT NULL,
    sha256 VARCHAR(64) NOT NULL,
    side TEXT NOT NULL,
    class TEXT,
    cell_id BIGINT NOT NULL,
    split_key TEXT NOT NULL,
    label_id BIGINT NOT NULL,
    PRIMARY KEY (dataset_digest, sha256),
    CONSTRAINT dataset_image_side CHECK (side IN ('training', 'validation', 'holdout', 'out_of_scope')),
    CONSTRAINT dataset_image_class CHECK (class IN ('basophil', 'eosinophil', 'erythroblast', 'ig', 'lymphocyte', 'monocyte', 'neutrophil', 'platelet')),
    CONSTRAINT dataset_image_scope CHECK ((side = 'out_of_scope') = (class IS NULL)),
    FOREIGN KEY(dataset_digest) REFERENCES bloodcell.dataset (dataset_digest),
    FOREIGN KEY(sha256) REFERENCES bloodcell.image (sha256),
    FOREIGN KEY(cell_id) REFERENCES bloodcell.cell (cell_id),
    FOREIGN KEY(split_key) REFERENCES bloodcell.data_split (split_key),
    FOREIGN KEY(label_id) REFERENCES bloodcell.label (label_id)
);
CREATE INDEX dataset_image_sha256 ON bloodcell.dataset_image (sha256, side);
COMMENT ON TABLE bloodcell.dataset_image IS 'An image of a data set: its side, its class, and the label that says so. Append-only.';
"""

CODES = """
INSERT INTO bloodcell.cell_code (code, class, name) VALUES
    ('SNE', 'neutrophil', 'segmented neutrophil'),
    ('BNE', 'neutrophil', 'band neutrophil'),
    ('EO', 'eosinophil', 'eosinophil'),
    ('BA', 'basophil', 'basophil'),
    ('LY', 'lymphocyte', 'lymphocyte'),
    ('MO', 'monocyte', 'monocyte'),
    ('PMY', 'ig', 'promyelocyte'),
    ('MY', 'ig', 'myelocyte'),
    ('MMY', 'ig', 'metamyelocyte'),
    ('IG', 'ig', 'immature granulocyte'),
    ('ERB', 'erythroblast', 'erythroblast'),
    ('PLT', 'platelet', 'platelet'),
    ('VLY', NULL, 'variant lymphocyte'),
    ('BL', NULL, 'blast'),
    ('PLY', NULL, 'prolymphocyte'),
    ('PC', NULL, 'plasma cell'),
    ('LGLY', NULL, 'large granular lymphocyte'),
    ('HC', NULL, 'hairy cell'),
    ('SEC', NULL, 'Sézary cell'),
    ('PMO', NULL, 'promonocyte'),
    ('IBO', NULL, 'immature basophil'),
    ('IEO', NULL, 'immature eosinophil'),
    ('SMU', NULL, 'smudge cell'),
    ('GT', NULL, 'giant thrombocyte'),
    ('TAG', NULL, 'thrombocyte aggregate'),
    ('ART', NULL, 'artefact'),
    ('MEK', NULL, 'megakaryocyte'),
    ('NC', NULL, 'not classed'),
    ('OTH', NULL, 'other');
"""

TRIGGERS = """
DO $$ DECLARE name text; BEGIN
    FOREACH name IN ARRAY ARRAY['label', 'label_file', 'data_split', 'dataset', 'dataset_image', 'candidate', 'evaluation',
                                'validation', 'model_check', 'checked_cell', 'cell_code'] LOOP
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON bloodcell.%I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION bloodcell.refuse_change()', name);
    END LOOP;
END $$;

CREATE FUNCTION bloodcell.refuse_unproved() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    failed text;
BEGIN
    SELECT string_agg(gate ->> 'reason', '; ') INTO failed
    FROM (SELECT gates FROM bloodcell.validation WHERE model_id = NEW.model_id
          ORDER BY validated_at DESC, validation_id LIMIT 1) newest, jsonb_array_elements(newest.gates) gate
    WHERE NOT (gate ->> 'passed')::boolean;
    IF failed IS NOT NULL THEN
        RAISE EXCEPTION 'Model % is refused by its gates: %', left(NEW.model_id, 12), failed
            USING ERRCODE = 'check_violation', HINT = 'Retrain with more or better labels; the champion stays.';
    END IF;
    RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION bloodcell.refuse_unproved() FROM PUBLIC;
CREATE TRIGGER only_proved BEFORE INSERT ON bloodcell.promotion
    FOR EACH ROW WHEN (NEW.action = 'promote') EXECUTE FUNCTION bloodcell.refuse_unproved();
COMMENT ON FUNCTION bloodcell.refuse_unproved() IS
    'A model whose newest validation failed a gate becomes champion by nobody''s hand.';
"""

RIGHTS = """
GRANT SELECT ON bloodcell.cell_code, bloodcell.label, bloodcell.label_file, bloodcell.data_split, bloodcell.dataset,
    bloodcell.dataset_image, bloodcell.training_run, bloodcell.candidate, bloodcell.evaluation, bloodcell.validation,
    bloodcell.model_check, bloodcell.checked_cell TO bloodcell_app;
GRANT INSERT ON bloodcell.label_file, bloodcell.data_split, bloodcell.dataset, bloodcell.dataset_image,
    bloodcell.training_run, bloodcell.candidate, bloodcell.evaluation, bloodcell.validation, bloodcell.model_check,
    bloodcell.checked_cell TO bloodcell_app;
-- who wrote a label, and when, is for the database to say
GRANT INSERT (cell_id, class, sub_label, labelled_by, labelled_at, is_blind, is_adjudication, note, source, run_id)
    ON bloodcell.label TO bloodcell_app;
GRANT UPDATE ON bloodcell.training_run TO bloodcell_app;
"""


def upgrade() -> None:
    for script in (TABLES, CODES, TRIGGERS, RIGHTS):
        # no parameters, so % and : in the text are taken literally
        op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise RuntimeError("Labels are never thrown away. To go back, restore a backup.")
