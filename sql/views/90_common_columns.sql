-- Columns that mean the same in every view are described here, once. A comment in the view's own file takes precedence.
DO $$ DECLARE
    described record;
BEGIN
    FOR described IN
        SELECT format('%I.%I', v.relname, a.attname) AS name, common.comment
        FROM (VALUES
            ('action', 'promote, or rollback to the previous champion.'),
            ('airflow_run', 'Airflow''s Dag run; empty where Airflow did not start it.'),
            ('acquired_at', 'When the slide was imaged, from slide.json.'),
            ('age_months', 'Age in months that the reference ranges were chosen by; empty: those of adults.'),
            ('analyser', 'The analyser, from slide.json.'),
            ('analyser_class', 'Cell class of analyser_code; empty for a code out of scope.'),
            ('analyser_code', 'The analyser''s pre-classification, never given to a model.'),
            ('barcode', 'Name of the slide, as the analyser writes it.'),
            ('called_at', 'When the cell was called.'),
            ('called_class', 'The cell class called, or unclassified.'),
            ('causes', 'What differs from the version before: first, cells, labels, calls, model, facts, rules, patient or signature.'),
            ('cell_id', 'The cell.'),
            ('champion_id', 'The champion at that time.'),
            ('class', 'Cell class by the label; empty for a code out of scope.'),
            ('code_version', 'Release of bloodcell that produced it, with the commit in a checkout.'),
            ('confidence', 'Calibrated probability of top_class, 0 to 1.'),
            ('confidence_threshold', 'A cell with a lower confidence stays unclassified.'),
            ('created_at', 'When the model was trained.'),
            ('dataset_digest', 'Digest of the training images and their labels.'),
            ('delivered_as', 'Barcode under which the cells were delivered, if the slide was renamed; else empty.'),
            ('detail', 'What was expected and what was received.'),
            ('file_name', 'Name of the cell''s file within the slide''s folder.'),
            ('first_seen_at', 'When the file was first seen.'),
            ('digest', 'sha256 over what the result was made from; empty before schema 0010.'),
            ('is_adjudication', 'Whether the label settles a contested cell.'),
            ('is_blind', 'Whether the person had not seen a call of the cell.'),
            ('is_reported', 'Whether these calls count for the slide; false for a challenger.'),
            ('is_sufficient', 'Whether there are enough leucocytes for a sufficient count.'),
            ('label', 'The label as a person writes it: the finer code, or the class.'),
            ('label_id', 'The label.'),
            ('labelled_at', 'When the person labelled the cell.'),
            ('labelled_by', 'Who labelled the cell.'),
            ('made_at', 'When the version was made.'),
            ('model_id', 'Digest of the model''s bundle.'),
            ('n_leucocytes', 'Cells of the six leucocyte classes and other leucocytes, the denominator of the percentages.'),
            ('n_unclassified', 'Cells that may be leucocytes and that neither a person nor the model could name.'),
            ('night', 'The night''s folder; of a slide, the first night in which cells of it arrived.'),
            ('note', 'What the person noted.'),
            ('novelty', 'How unlike the training cells the cell is, on the scale of the model.'),
            ('novelty_threshold', 'A cell with a higher novelty stays unclassified.'),
            ('order_id', 'The order, from slide.json.'),
            ('outcome', 'What became of the file: cell, duplicate, quarantined or ignored.'),
            ('path', 'Path of the file, relative to the night''s folder.'),
            ('patient_key', 'Pseudonym of the patient, from slide.json.'),
            ('promoted_at', 'When the model became champion.'),
            ('promoted_by', 'Who decided.'),
            ('promotion_id', 'The promotion; the highest one names the champion.'),
            ('reason', 'Why.'),
            ('registered_at', 'When the model was registered in this database.'),
            ('registered_by', 'Who registered it.'),
            ('report', 'Where the validation page is in the store.'),
            ('review_for', 'Review rules that name the slide.'),
            ('run_id', 'Run that wrote it; see run_history.'),
            ('rules_digest', 'Digest of the laboratory''s rules that flagged it; empty before schema 0010.'),
            ('rules_version', 'The laboratory''s own name of these rules.'),
            ('sex', 'Sex that the reference ranges were chosen by: female or male; empty: unknown.'),
            ('resembles', 'Code out of scope that a novel cell resembles, as the laboratory labels such cells.'),
            ('sha256', 'Digest of the image in the store, which has no metadata.'),
            ('signed_by', 'Login of the person who signed it; empty if a run made it.'),
            ('size_bytes', 'Size of the file in bytes.'),
            ('slide_id', 'Internal key of the slide.'),
            ('split_key', 'The patient: the patient_key, or slide:<barcode> where there is none.'),
            ('sub_label', 'The code, where it is finer than the class or out of scope.'),
            ('top_class', 'The most probable class, also of an unclassified cell.'),
            ('training_run_id', 'The retraining.'),
            ('unclassified_reason', 'Why the cell is unclassified: low_confidence or novel.'),
            ('updated_at', 'When the row was last updated.'),
            ('variant', 'Kind of model.'),
            ('withdrawn_at', 'When the slide was withdrawn: these rows do not count any more; empty while it stands.'),
            ('wbc_is_corrected', 'Whether wbc_received leaves out nucleated red cells already.'),
            ('wbc_received', 'The analyser''s leucocyte count in 10^9 per litre, from slide.json.'),
            ('withheld_for', 'Why the percentages are, or were until it was signed, withheld.'),
            ('written_at', 'When the calls were added up.')
        ) common (name, comment)
        JOIN pg_attribute a ON a.attname = common.name AND NOT a.attisdropped
        JOIN pg_class v ON v.oid = a.attrelid
        WHERE v.relnamespace = 'bloodcell'::regnamespace AND v.relkind = 'v' AND v.relowner = current_user::regrole
          AND col_description(v.oid, a.attnum) IS NULL
    LOOP
        EXECUTE format('COMMENT ON COLUMN bloodcell.%s IS %L', described.name, described.comment);
    END LOOP;
END $$;
