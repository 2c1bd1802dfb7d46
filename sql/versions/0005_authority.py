"""Who authorises is on record: what a person was asked, what they answered, and the login behind each request.

A question and its answer are written by the task that asks, which receives the answer from Airflow together with the
login that Airflow authenticated. No value that a user of Airflow's API can write reaches these tables.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

UPGRADE = """
CREATE TABLE bloodcell.approval_question (
    question_id UUID NOT NULL,
    training_run_id UUID NOT NULL,
    model_id VARCHAR(64) NOT NULL,
    asked_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (question_id),
    FOREIGN KEY(training_run_id) REFERENCES bloodcell.training_run (training_run_id),
    FOREIGN KEY(model_id) REFERENCES bloodcell.model (model_id)
);
CREATE INDEX approval_question_training_run ON bloodcell.approval_question (training_run_id, asked_at);

CREATE TABLE bloodcell.approval_answer (
    question_id UUID NOT NULL,
    decision TEXT NOT NULL,
    answered_by TEXT NOT NULL,
    answered_at TIMESTAMP WITH TIME ZONE NOT NULL,
    reason TEXT NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (question_id),
    CONSTRAINT approval_answer_decision CHECK (decision IN ('Approve', 'Reject')),
    FOREIGN KEY(question_id) REFERENCES bloodcell.approval_question (question_id)
);

ALTER TABLE bloodcell.validation ADD COLUMN summary TEXT;
ALTER TABLE bloodcell.training_run ADD COLUMN triggered_by TEXT;
-- in two steps, or the present rows would get the login that migrates
ALTER TABLE bloodcell.promotion ADD COLUMN recorded_by TEXT;
ALTER TABLE bloodcell.promotion ALTER COLUMN recorded_by SET DEFAULT session_user;

DO $$ DECLARE name text; BEGIN
    FOREACH name IN ARRAY ARRAY['approval_question', 'approval_answer'] LOOP
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON bloodcell.%I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION bloodcell.refuse_change()', name);
    END LOOP;
END $$;
GRANT SELECT, INSERT ON bloodcell.approval_question, bloodcell.approval_answer TO bloodcell_app;
-- who wrote a promotion is for the database to say
REVOKE INSERT ON bloodcell.promotion FROM bloodcell_app;
GRANT INSERT (model_id, action, promoted_by, promoted_at, reason, evidence) ON bloodcell.promotion TO bloodcell_app;
"""

DOWNGRADE = """
REVOKE INSERT (model_id, action, promoted_by, promoted_at, reason, evidence) ON bloodcell.promotion FROM bloodcell_app;
GRANT INSERT ON bloodcell.promotion TO bloodcell_app;
ALTER TABLE bloodcell.promotion DROP COLUMN recorded_by;
ALTER TABLE bloodcell.training_run DROP COLUMN triggered_by;
ALTER TABLE bloodcell.validation DROP COLUMN summary;
DROP TABLE bloodcell.approval_answer;
DROP TABLE bloodcell.approval_question;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE, execution_options={"no_parameters": True})


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWNGRADE, execution_options={"no_parameters": True})
