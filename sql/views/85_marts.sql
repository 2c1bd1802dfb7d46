-- What analysts and dashboards read: stable, wide, without challengers, control slides, withdrawn slides and identities.
CREATE VIEW bloodcell.mart_slide_version AS
SELECT v.night, v.barcode, v.order_id, v.patient_key, v.analyser, v.acquired_at, v.version, v.state, v.made_at, v.signed_by,
       array_to_string(v.withheld_for, ', ') AS withheld_for, array_to_string(v.review_for, ', ') AS review_for, v.n_cells,
       v.n_leucocytes, v.n_unclassified, v.n_labelled, v.n_blasts, v.is_sufficient, l.neutrophil_percent,
       l.eosinophil_percent, l.basophil_percent, l.lymphocyte_percent, l.monocyte_percent, l.ig_percent,
       CASE WHEN v.n_leucocytes > 0 THEN 100.0 * v.n_other_leucocytes / v.n_leucocytes END AS other_percent,
       v.nrbc_per_100_wbc, l.neutrophil_10e9_per_l, l.eosinophil_10e9_per_l, l.basophil_10e9_per_l,
       l.lymphocyte_10e9_per_l, l.monocyte_10e9_per_l, l.ig_10e9_per_l, v.wbc_10e9_per_l, v.age_months, v.sex, v.n_compared,
       v.n_agree, v.variant, v.model_id, v.rules_version, v.in_force_from, v.in_force_until, v.withdrawn_at,
       v.slide_id
FROM bloodcell.result_version v
CROSS JOIN LATERAL (
    SELECT max(d.percentage) FILTER (WHERE d.class = 'neutrophil') AS neutrophil_percent,
           max(d.percentage) FILTER (WHERE d.class = 'eosinophil') AS eosinophil_percent,
           max(d.percentage) FILTER (WHERE d.class = 'basophil') AS basophil_percent,
           max(d.percentage) FILTER (WHERE d.class = 'lymphocyte') AS lymphocyte_percent,
           max(d.percentage) FILTER (WHERE d.class = 'monocyte') AS monocyte_percent,
           max(d.percentage) FILTER (WHERE d.class = 'ig') AS ig_percent,
           max(d.absolute) FILTER (WHERE d.class = 'neutrophil') AS neutrophil_10e9_per_l,
           max(d.absolute) FILTER (WHERE d.class = 'eosinophil') AS eosinophil_10e9_per_l,
           max(d.absolute) FILTER (WHERE d.class = 'basophil') AS basophil_10e9_per_l,
           max(d.absolute) FILTER (WHERE d.class = 'lymphocyte') AS lymphocyte_10e9_per_l,
           max(d.absolute) FILTER (WHERE d.class = 'monocyte') AS monocyte_10e9_per_l,
           max(d.absolute) FILTER (WHERE d.class = 'ig') AS ig_10e9_per_l
    FROM bloodcell.differential d WHERE d.report_id = v.report_id
) l
WHERE NOT EXISTS (SELECT FROM bloodcell.control_slide c WHERE c.slide_id = v.slide_id);

COMMENT ON VIEW bloodcell.mart_slide_version IS
    'Wide: one row per version of each slide''s result that counts or counted. mart_slide has those that count now, '
    'mart_slide_as_of(moment) those that counted then.';
COMMENT ON COLUMN bloodcell.mart_slide_version.version IS '1 for the slide''s first version, and so on.';
COMMENT ON COLUMN bloodcell.mart_slide_version.state IS 'machine, withheld, final, amended or corrected.';
COMMENT ON COLUMN bloodcell.mart_slide_version.withheld_for IS 'Why the percentages are withheld, separated by commas.';
COMMENT ON COLUMN bloodcell.mart_slide_version.review_for IS 'Review rules that name the slide, separated by commas.';
COMMENT ON COLUMN bloodcell.mart_slide_version.n_cells IS 'Cells of the slide when they were counted.';
COMMENT ON COLUMN bloodcell.mart_slide_version.n_labelled IS 'Of n_cells, those that a person''s label decides.';
COMMENT ON COLUMN bloodcell.mart_slide_version.n_blasts IS 'Cells that a person, or else the analyser, named a blast.';
COMMENT ON COLUMN bloodcell.mart_slide_version.neutrophil_percent IS 'Neutrophils in percent of the leucocytes.';
COMMENT ON COLUMN bloodcell.mart_slide_version.eosinophil_percent IS 'Eosinophils in percent of the leucocytes.';
COMMENT ON COLUMN bloodcell.mart_slide_version.basophil_percent IS 'Basophils in percent of the leucocytes.';
COMMENT ON COLUMN bloodcell.mart_slide_version.lymphocyte_percent IS 'Lymphocytes in percent of the leucocytes.';
COMMENT ON COLUMN bloodcell.mart_slide_version.monocyte_percent IS 'Monocytes in percent of the leucocytes.';
COMMENT ON COLUMN bloodcell.mart_slide_version.ig_percent IS 'Immature granulocytes in percent of the leucocytes.';
COMMENT ON COLUMN bloodcell.mart_slide_version.other_percent IS 'Leucocytes of codes out of scope in percent of the leucocytes.';
COMMENT ON COLUMN bloodcell.mart_slide_version.nrbc_per_100_wbc IS 'Erythroblasts per 100 leucocytes.';
COMMENT ON COLUMN bloodcell.mart_slide_version.neutrophil_10e9_per_l IS 'Neutrophils in 10^9 per litre.';
COMMENT ON COLUMN bloodcell.mart_slide_version.eosinophil_10e9_per_l IS 'Eosinophils in 10^9 per litre.';
COMMENT ON COLUMN bloodcell.mart_slide_version.basophil_10e9_per_l IS 'Basophils in 10^9 per litre.';
COMMENT ON COLUMN bloodcell.mart_slide_version.lymphocyte_10e9_per_l IS 'Lymphocytes in 10^9 per litre.';
COMMENT ON COLUMN bloodcell.mart_slide_version.monocyte_10e9_per_l IS 'Monocytes in 10^9 per litre.';
COMMENT ON COLUMN bloodcell.mart_slide_version.ig_10e9_per_l IS 'Immature granulocytes in 10^9 per litre.';
COMMENT ON COLUMN bloodcell.mart_slide_version.wbc_10e9_per_l IS 'Leucocyte count of the absolute counts.';
COMMENT ON COLUMN bloodcell.mart_slide_version.n_compared IS 'Cells with a call and with an analyser code in scope.';
COMMENT ON COLUMN bloodcell.mart_slide_version.n_agree IS 'Of n_compared, those that the model called as the analyser did.';
COMMENT ON COLUMN bloodcell.mart_slide_version.in_force_from IS
    'From when the version counted; empty for one that waits for a person because an earlier one was signed.';
COMMENT ON COLUMN bloodcell.mart_slide_version.in_force_until IS 'When another version took its place; empty until then.';

CREATE VIEW bloodcell.mart_slide AS
SELECT * FROM bloodcell.mart_slide_version
WHERE in_force_from IS NOT NULL AND in_force_until IS NULL AND withdrawn_at IS NULL;

COMMENT ON VIEW bloodcell.mart_slide IS 'Wide: one row per slide, with the version of its result that counts now.';

DO $$ DECLARE
    described record;
BEGIN
    FOR described IN
        SELECT a.attname, col_description(a.attrelid, a.attnum) AS comment FROM pg_attribute a
        WHERE a.attrelid = 'bloodcell.mart_slide_version'::regclass AND col_description(a.attrelid, a.attnum) IS NOT NULL
    LOOP
        EXECUTE format('COMMENT ON COLUMN bloodcell.mart_slide.%I IS %L', described.attname, described.comment);
    END LOOP;
END $$;

CREATE FUNCTION bloodcell.mart_slide_as_of(a_moment timestamptz) RETURNS SETOF bloodcell.mart_slide_version
LANGUAGE sql STABLE AS $$
    SELECT v.* FROM bloodcell.mart_slide_version v
    WHERE in_force_from <= a_moment AND (in_force_until > a_moment OR in_force_until IS NULL)
      AND NOT coalesce((SELECT w.action <> 'restore' FROM bloodcell.withdrawal_history w
                        WHERE w.slide_id = v.slide_id AND w.recorded_at <= a_moment
                        ORDER BY w.withdrawal_id DESC LIMIT 1), false)
$$;

CREATE VIEW bloodcell.mart_slide_class AS
SELECT v.night, v.barcode, v.version, v.state, d.class, coalesce(c.name, d.class) AS name, d.n_cells, d.percentage,
       d.lower AS percentage_lower_95, d.upper AS percentage_upper_95, d.bound_lower, d.bound_upper,
       d.absolute AS absolute_10e9_per_l, d.flag, d.n_labelled, d.n_unverified, v.analyser, v.made_at, v.variant, v.model_id
FROM bloodcell.result_version v
JOIN bloodcell.differential d USING (report_id)
LEFT JOIN bloodcell.cell_code c ON c.code = d.class
WHERE v.is_in_force AND NOT EXISTS (SELECT FROM bloodcell.control_slide q WHERE q.slide_id = v.slide_id);

COMMENT ON VIEW bloodcell.mart_slide_class IS
    'Long: one row per slide and line of its differential, of the version that counts now.';
COMMENT ON COLUMN bloodcell.mart_slide_class.version IS '1 for the slide''s first version, and so on.';
COMMENT ON COLUMN bloodcell.mart_slide_class.state IS 'machine, withheld, final, amended or corrected.';
COMMENT ON COLUMN bloodcell.mart_slide_class.class IS
    'One of the eight cell classes, unclassified, contested, or a code out of scope.';
COMMENT ON COLUMN bloodcell.mart_slide_class.name IS 'What the code means; for the others the class.';
COMMENT ON COLUMN bloodcell.mart_slide_class.n_cells IS 'Cells that count as this.';
COMMENT ON COLUMN bloodcell.mart_slide_class.percentage IS 'Share of the leucocytes in percent; empty for what is no leucocyte.';
COMMENT ON COLUMN bloodcell.mart_slide_class.percentage_lower_95 IS 'Lower end of its exact 95 % interval.';
COMMENT ON COLUMN bloodcell.mart_slide_class.percentage_upper_95 IS 'Upper end of its exact 95 % interval.';
COMMENT ON COLUMN bloodcell.mart_slide_class.bound_lower IS
    'The percentage if no unclassified cell were of this class but a leucocyte.';
COMMENT ON COLUMN bloodcell.mart_slide_class.bound_upper IS 'The percentage if every unclassified cell were of this class.';
COMMENT ON COLUMN bloodcell.mart_slide_class.absolute_10e9_per_l IS 'Cells in 10^9 per litre; empty without a leucocyte count.';
COMMENT ON COLUMN bloodcell.mart_slide_class.flag IS
    'low, possibly_low, possibly_high or high relative to the reference range; possibly: the interval overlaps it.';
COMMENT ON COLUMN bloodcell.mart_slide_class.n_labelled IS 'Of n_cells, those that a person''s label decides.';
COMMENT ON COLUMN bloodcell.mart_slide_class.n_unverified IS 'Of n_cells, those that only the analyser''s code names.';

CREATE VIEW bloodcell.mart_cell AS
SELECT k.night, s.barcode, c.file_name, c.sha256, s.analyser, c.analyser_code, k.called_class, k.top_class, k.confidence,
       k.novelty, k.unclassified_reason, k.resembles, k.called_at, m.variant, k.model_id, c.cell_id
FROM bloodcell.cell_call k
JOIN bloodcell.cell c USING (cell_id, night)
JOIN bloodcell.standing_slide s USING (slide_id)
JOIN bloodcell.model m USING (model_id)
LEFT JOIN LATERAL (
    SELECT o.model_id FROM bloodcell.slide_last_reported_model o WHERE o.slide_id = s.slide_id LIMIT 1
) reported ON true
WHERE k.model_id IS NOT DISTINCT FROM reported.model_id
  AND NOT EXISTS (SELECT FROM bloodcell.control_slide q WHERE q.slide_id = c.slide_id);

COMMENT ON VIEW bloodcell.mart_cell IS 'One row per cell, with the call of the model that is reported.';

-- OMOP CDM 5.4, table MEASUREMENT. Which concept a line is, only the site's vocabularies say: rows of omop_concept. A patient is
-- the number of the first slide with the pseudonym. 32856 is OMOP's type concept for laboratory results.
CREATE VIEW bloodcell.omop_measurement AS
SELECT v.report_id * 64 + 2 * array_position(
           '{neutrophil,eosinophil,basophil,lymphocyte,monocyte,ig,BL,VLY,PLY,PC,LGLY,HC,SEC,PMO,IBO,IEO}'::text[], d.class)
           + k.position AS measurement_id,
       p.person_id, coalesce(o.concept_id, 0) AS measurement_concept_id,
       (coalesce(v.acquired_at, v.made_at) AT TIME ZONE 'UTC')::date AS measurement_date,
       (coalesce(v.acquired_at, v.made_at) AT TIME ZONE 'UTC') AS measurement_datetime, CAST(NULL AS varchar) AS measurement_time,
       32856 AS measurement_type_concept_id, CAST(NULL AS integer) AS operator_concept_id,
       k.value::numeric AS value_as_number, CAST(NULL AS integer) AS value_as_concept_id,
       coalesce(o.unit_concept_id, 0) AS unit_concept_id, CAST(NULL AS numeric) AS range_low,
       CAST(NULL AS numeric) AS range_high, CAST(NULL AS integer) AS provider_id, CAST(NULL AS integer) AS visit_occurrence_id,
       CAST(NULL AS integer) AS visit_detail_id, format('%s %s', d.class, k.what) AS measurement_source_value,
       0 AS measurement_source_concept_id, k.unit AS unit_source_value, 0 AS unit_source_concept_id,
       left(k.value::text, 50) AS value_source_value, CAST(NULL AS bigint) AS measurement_event_id,
       CAST(NULL AS integer) AS meas_event_field_concept_id
FROM bloodcell.result_version v
JOIN bloodcell.differential d USING (report_id)
CROSS JOIN LATERAL (VALUES (0, 'percent', d.percentage, '%'), (1, 'absolute', d.absolute, '10*9/L')) k (position, what, value, unit)
CROSS JOIN LATERAL (SELECT min(s.slide_id) AS person_id FROM bloodcell.slide s WHERE s.patient_key = v.patient_key) p
LEFT JOIN bloodcell.omop_concept o ON o.class = d.class AND o.what = k.what
WHERE v.is_in_force AND v.signed_by IS NOT NULL AND k.value IS NOT NULL AND v.patient_key IS NOT NULL;

COMMENT ON VIEW bloodcell.omop_measurement IS
    'Signed results as rows of OMOP CDM 5.4''s table MEASUREMENT; the concepts are those of the table omop_concept.';
COMMENT ON COLUMN bloodcell.omop_measurement.measurement_id IS 'Key of the row.';
COMMENT ON COLUMN bloodcell.omop_measurement.person_id IS 'The patient: key of the first slide with the pseudonym.';
COMMENT ON COLUMN bloodcell.omop_measurement.measurement_concept_id IS 'Concept of the line; 0: the site has named none.';
COMMENT ON COLUMN bloodcell.omop_measurement.measurement_date IS 'Day on which the slide was imaged, or else counted.';
COMMENT ON COLUMN bloodcell.omop_measurement.measurement_datetime IS 'When the slide was imaged, or else counted, in UTC.';
COMMENT ON COLUMN bloodcell.omop_measurement.measurement_time IS 'Not used.';
COMMENT ON COLUMN bloodcell.omop_measurement.measurement_type_concept_id IS '32856: a result of a laboratory.';
COMMENT ON COLUMN bloodcell.omop_measurement.operator_concept_id IS 'Not used.';
COMMENT ON COLUMN bloodcell.omop_measurement.value_as_number IS 'The value.';
COMMENT ON COLUMN bloodcell.omop_measurement.value_as_concept_id IS 'Not used.';
COMMENT ON COLUMN bloodcell.omop_measurement.unit_concept_id IS 'Concept of the unit; 0: the site has named none.';
COMMENT ON COLUMN bloodcell.omop_measurement.range_low IS 'Not used.';
COMMENT ON COLUMN bloodcell.omop_measurement.range_high IS 'Not used.';
COMMENT ON COLUMN bloodcell.omop_measurement.provider_id IS 'Not used.';
COMMENT ON COLUMN bloodcell.omop_measurement.visit_occurrence_id IS 'Not used.';
COMMENT ON COLUMN bloodcell.omop_measurement.visit_detail_id IS 'Not used.';
COMMENT ON COLUMN bloodcell.omop_measurement.measurement_source_value IS 'Line of the differential, and percent or absolute.';
COMMENT ON COLUMN bloodcell.omop_measurement.measurement_source_concept_id IS 'Not used: 0.';
COMMENT ON COLUMN bloodcell.omop_measurement.unit_source_value IS 'The unit in UCUM.';
COMMENT ON COLUMN bloodcell.omop_measurement.unit_source_concept_id IS 'Not used: 0.';
COMMENT ON COLUMN bloodcell.omop_measurement.value_source_value IS 'The value as it is stored.';
COMMENT ON COLUMN bloodcell.omop_measurement.measurement_event_id IS 'Not used.';
COMMENT ON COLUMN bloodcell.omop_measurement.meas_event_field_concept_id IS 'Not used.';

COMMENT ON FUNCTION bloodcell.mart_slide_as_of(timestamptz) IS 'The rows of mart_slide_version that counted at a moment.';
