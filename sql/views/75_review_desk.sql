-- Sessions without their tokens: who worked at the desk, and when.
CREATE VIEW bloodcell.desk_session_history AS
SELECT session_id, person, roles, method, opened_at, seen_at, expires_at, ended_at, ended_for,
       ended_at IS NULL AND expires_at > clock_timestamp() AND seen_at > clock_timestamp() - idle_s * interval '1 second'
           AS is_open
FROM bloodcell.desk_session;

COMMENT ON VIEW bloodcell.desk_session_history IS 'Every session of the review desk: who logged in, how, and until when.';
COMMENT ON COLUMN bloodcell.desk_session_history.session_id IS 'Key of the session, as labels, comments and signatures name it.';
COMMENT ON COLUMN bloodcell.desk_session_history.person IS 'Who it is.';
COMMENT ON COLUMN bloodcell.desk_session_history.roles IS 'Roles at log-in: viewer, reader, senior, administrator.';
COMMENT ON COLUMN bloodcell.desk_session_history.method IS 'How the person logged in: local, link, ldap or oidc.';
COMMENT ON COLUMN bloodcell.desk_session_history.opened_at IS 'When the person logged in.';
COMMENT ON COLUMN bloodcell.desk_session_history.seen_at IS 'When the session was last used.';
COMMENT ON COLUMN bloodcell.desk_session_history.expires_at IS 'When it ends in any case.';
COMMENT ON COLUMN bloodcell.desk_session_history.ended_at IS 'When it was ended; empty for one that ran out.';
COMMENT ON COLUMN bloodcell.desk_session_history.ended_for IS 'log_out, everywhere (by the person) or administrator.';
COMMENT ON COLUMN bloodcell.desk_session_history.is_open IS 'Whether it can still be used.';

CREATE VIEW bloodcell.slide_opening_history AS
SELECT s.barcode, s.night, o.person, o.opened_at, o.session_id, o.slide_id
FROM bloodcell.slide_opening o JOIN bloodcell.slide s USING (slide_id);

COMMENT ON VIEW bloodcell.slide_opening_history IS 'Who looked at which slide at the review desk, once per session.';
COMMENT ON COLUMN bloodcell.slide_opening_history.person IS 'Who opened it.';
COMMENT ON COLUMN bloodcell.slide_opening_history.opened_at IS 'When it was opened first in the session.';
COMMENT ON COLUMN bloodcell.slide_opening_history.session_id IS 'Session of the review desk.';

CREATE VIEW bloodcell.comment_history AS
SELECT s.barcode, s.night, c.file_name, m.cell_id, m.text, m.person, m.written_at, m.session_id, m.slide_id, m.comment_id
FROM bloodcell.slide_comment m JOIN bloodcell.slide s USING (slide_id) LEFT JOIN bloodcell.cell c ON c.cell_id = m.cell_id;

COMMENT ON VIEW bloodcell.comment_history IS 'What people wrote about slides and cells at the review desk.';
COMMENT ON COLUMN bloodcell.comment_history.text IS 'The comment.';
COMMENT ON COLUMN bloodcell.comment_history.person IS 'Who wrote it.';
COMMENT ON COLUMN bloodcell.comment_history.written_at IS 'When.';
COMMENT ON COLUMN bloodcell.comment_history.session_id IS 'Session of the review desk.';
COMMENT ON COLUMN bloodcell.comment_history.comment_id IS 'Key of the comment.';

CREATE VIEW bloodcell.slide_lease_now AS
SELECT slide_id, session_id, person, taken_at, held_until FROM bloodcell.slide_lease WHERE held_until > clock_timestamp();

COMMENT ON VIEW bloodcell.slide_lease_now IS 'Who is working on a slide at the review desk now.';
COMMENT ON COLUMN bloodcell.slide_lease_now.session_id IS 'Session of the review desk.';
COMMENT ON COLUMN bloodcell.slide_lease_now.person IS 'Who has the slide.';
COMMENT ON COLUMN bloodcell.slide_lease_now.taken_at IS 'Since when.';
COMMENT ON COLUMN bloodcell.slide_lease_now.held_until IS 'Until when, unless it is renewed.';

CREATE VIEW bloodcell.slide_action AS
SELECT c.slide_id, l.recorded_at AS at, l.labelled_by AS person,
       CASE WHEN l.is_retraction THEN 'label_taken_back' WHEN l.is_adjudication THEN 'adjudication'
            WHEN l.is_blind THEN 'blind_label' ELSE 'label' END AS action,
       c.cell_id, c.file_name, coalesce(l.sub_label, l.class) AS label, l.note AS text, l.session_id,
       CAST(NULL AS integer) AS version
FROM bloodcell.label l JOIN bloodcell.cell c USING (cell_id)
UNION ALL
SELECT m.slide_id, m.written_at, m.person, 'comment', m.cell_id, c.file_name, NULL, m.text, m.session_id, NULL
FROM bloodcell.slide_comment m LEFT JOIN bloodcell.cell c ON c.cell_id = m.cell_id
UNION ALL
SELECT o.slide_id, o.opened_at, o.person, 'opened', NULL, NULL, NULL, NULL, o.session_id, NULL
FROM bloodcell.slide_opening o
UNION ALL
SELECT r.slide_id, r.made_at, r.signed_by, CASE WHEN r.signed_by IS NULL THEN 'version' ELSE 'signed' END, NULL, NULL,
       NULL, r.reason, r.session_id, r.number
FROM bloodcell.result r;

COMMENT ON VIEW bloodcell.slide_action IS
    'Everything that happened to a slide since it was counted: openings, labels, comments, versions and signatures. Always '
    'filter on slide_id.';
COMMENT ON COLUMN bloodcell.slide_action.at IS 'When.';
COMMENT ON COLUMN bloodcell.slide_action.person IS 'Who; empty for a version that a run made.';
COMMENT ON COLUMN bloodcell.slide_action.action IS
    'opened, label, blind_label, label_taken_back, adjudication, comment, version or signed.';
COMMENT ON COLUMN bloodcell.slide_action.label IS 'What the person labelled the cell.';
COMMENT ON COLUMN bloodcell.slide_action.text IS 'Comment, note of a label, or reason of a signature.';
COMMENT ON COLUMN bloodcell.slide_action.session_id IS 'Session of the review desk; empty for what came in another way.';
COMMENT ON COLUMN bloodcell.slide_action.version IS 'Version of the result.';

-- Those of another release may return something else, which CREATE OR REPLACE refuses.
DO $$ DECLARE function regprocedure; BEGIN
    FOR function IN SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = 'bloodcell'::regnamespace AND starts_with(proname, 'desk_')
    LOOP
        EXECUTE format('DROP FUNCTION %s', function);
    END LOOP;
END $$;

-- The functions of the desk. Each gets the digest of the session's token and looks the person up itself: no request can act
-- in another person's name. Only the role bloodcell_desk may call them, and it can write in no other way.
CREATE FUNCTION bloodcell.desk_open_session(
    a_token text, a_person text, a_roles text[], a_method text, a_stamp text, a_idle_s integer, a_hours double precision
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    opened bigint;
BEGIN
    -- a provider may give a name to another person later; the first one has signed under it
    IF a_method = 'oidc' AND EXISTS (
        SELECT FROM bloodcell.desk_session d WHERE lower(d.person) = lower(normalize(a_person)) AND d.method = 'oidc'
        AND d.stamp IS DISTINCT FROM a_stamp) THEN
        RAISE EXCEPTION 'Somebody else has worked at the desk under the name %', a_person
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'BLOODCELL_DESK_OIDC_NAME_CLAIM: a claim whose values are never given again.';
    END IF;
    INSERT INTO bloodcell.desk_session (token_digest, person, roles, method, stamp, idle_s, expires_at)
    VALUES (a_token, normalize(a_person), a_roles, a_method, a_stamp, a_idle_s, clock_timestamp() + a_hours * interval '1 hour')
    RETURNING session_id INTO opened;
    RETURN opened;
END $$;
COMMENT ON FUNCTION bloodcell.desk_open_session(text, text, text[], text, text, integer, double precision) IS
    'Opens a session for a person whom the desk has authenticated; the token''s digest stands for it.';

-- The time of the last use is written once in ten seconds, not with each of a gallery's requests.
CREATE FUNCTION bloodcell.desk_session_of(a_token text, a_is_use boolean) RETURNS TABLE (
    session_id bigint, person text, roles text[], method text, stamp text, is_proved boolean
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE bloodcell.desk_session d SET seen_at = clock_timestamp()
    WHERE a_is_use AND d.token_digest = a_token AND d.ended_at IS NULL AND d.expires_at > clock_timestamp()
      AND d.seen_at BETWEEN clock_timestamp() - d.idle_s * interval '1 second' AND clock_timestamp() - interval '10 seconds';
    RETURN QUERY
    SELECT d.session_id, d.person, d.roles, d.method, d.stamp,
           d.proved_at IS NOT NULL AND d.proved_at > clock_timestamp() - interval '2 minutes'
    FROM bloodcell.desk_session d
    WHERE d.token_digest = a_token AND d.ended_at IS NULL AND d.expires_at > clock_timestamp()
      AND d.seen_at > clock_timestamp() - d.idle_s * interval '1 second';
END $$;
COMMENT ON FUNCTION bloodcell.desk_session_of(text, boolean) IS
    'Who has this session, and marks it as used if it is; nothing if it was ended, is too old, or was not used for too long.';

CREATE FUNCTION bloodcell.desk_end_session(a_token text, a_why text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    who bloodcell.desk_session;
    n integer;
BEGIN
    SELECT * INTO who FROM bloodcell.desk_session d WHERE d.token_digest = a_token;
    UPDATE bloodcell.desk_session d SET ended_at = clock_timestamp(), ended_for = a_why
    WHERE d.ended_at IS NULL
      AND (d.session_id = who.session_id OR a_why = 'everywhere' AND lower(d.person) = lower(who.person));
    GET DIAGNOSTICS n = ROW_COUNT;
    DELETE FROM bloodcell.slide_lease l USING bloodcell.desk_session d
    WHERE d.session_id = l.session_id AND d.ended_at IS NOT NULL;
    RETURN n;
END $$;
COMMENT ON FUNCTION bloodcell.desk_end_session(text, text) IS
    'Ends a session (log_out), or all sessions of its person (everywhere); returns how many.';

CREATE FUNCTION bloodcell.desk_end_sessions_of(a_token text, a_person text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    n integer;
BEGIN
    PERFORM bloodcell.desk_writer(a_token, 'administrator');
    UPDATE bloodcell.desk_session d SET ended_at = clock_timestamp(), ended_for = 'administrator'
    WHERE d.ended_at IS NULL AND lower(d.person) = lower(normalize(a_person));
    GET DIAGNOSTICS n = ROW_COUNT;
    DELETE FROM bloodcell.slide_lease l USING bloodcell.desk_session d
    WHERE d.session_id = l.session_id AND d.ended_at IS NOT NULL;
    RETURN n;
END $$;
COMMENT ON FUNCTION bloodcell.desk_end_sessions_of(text, text) IS
    'Ends all sessions of a person, by an administrator; returns how many.';

-- 28000 (invalid_authorization_specification): log in again; 42501 (insufficient_privilege): another role is needed.
CREATE FUNCTION bloodcell.desk_writer(a_token text, a_role text) RETURNS bloodcell.desk_session
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    who bloodcell.desk_session;
BEGIN
    SELECT * INTO who FROM bloodcell.desk_session d
    WHERE d.token_digest = a_token AND d.ended_at IS NULL AND d.expires_at > clock_timestamp()
      AND d.seen_at > clock_timestamp() - d.idle_s * interval '1 second';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'The session has ended' USING ERRCODE = 'invalid_authorization_specification';
    END IF;
    IF NOT (a_role = ANY (who.roles) OR a_role = 'reader' AND 'senior' = ANY (who.roles)) THEN
        RAISE EXCEPTION 'This needs the role %', a_role USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN who;
END $$;
COMMENT ON FUNCTION bloodcell.desk_writer(text, text) IS 'The session behind a token, if its person has a role.';

CREATE FUNCTION bloodcell.desk_open_slide(a_token text, a_slide bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    who bloodcell.desk_session;
BEGIN
    SELECT * INTO who FROM bloodcell.desk_session d WHERE d.token_digest = a_token AND d.ended_at IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'The session has ended' USING ERRCODE = 'invalid_authorization_specification';
    END IF;
    INSERT INTO bloodcell.slide_opening (slide_id, session_id, person) VALUES (a_slide, who.session_id, who.person)
    ON CONFLICT DO NOTHING;
END $$;
COMMENT ON FUNCTION bloodcell.desk_open_slide(text, bigint) IS 'Records that a person has opened a slide, once per session.';

-- A lease runs out by itself, so that a closed browser keeps nobody waiting. Taking over is open to every reader, and both
-- people see it.
CREATE FUNCTION bloodcell.desk_lease(a_token text, a_slide bigint, a_seconds integer, a_take_over boolean)
RETURNS TABLE (person text, is_mine boolean, held_until timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    who bloodcell.desk_session := bloodcell.desk_writer(a_token, 'reader');
BEGIN
    IF NOT EXISTS (SELECT FROM bloodcell.slide s WHERE s.slide_id = a_slide AND s.withdrawn_at IS NULL) THEN
        RAISE EXCEPTION 'There is no such slide' USING ERRCODE = 'no_data_found';
    END IF;
    INSERT INTO bloodcell.slide_lease AS l (slide_id, session_id, person, held_until)
    VALUES (a_slide, who.session_id, who.person, clock_timestamp() + a_seconds * interval '1 second')
    ON CONFLICT (slide_id) DO UPDATE
    SET session_id = EXCLUDED.session_id, person = EXCLUDED.person, held_until = EXCLUDED.held_until,
        taken_at = CASE WHEN l.session_id = EXCLUDED.session_id THEN l.taken_at ELSE clock_timestamp() END
    WHERE a_take_over OR l.held_until < clock_timestamp() OR lower(l.person) = lower(EXCLUDED.person);
    RETURN QUERY SELECT l.person, lower(l.person) = lower(who.person), l.held_until
    FROM bloodcell.slide_lease l WHERE l.slide_id = a_slide;
END $$;
COMMENT ON FUNCTION bloodcell.desk_lease(text, bigint, integer, boolean) IS
    'Takes or renews the lease of a slide, unless somebody else has it; returns who has it.';

CREATE FUNCTION bloodcell.desk_end_lease(a_token text, a_slide bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM bloodcell.slide_lease l USING bloodcell.desk_session d
    WHERE l.slide_id = a_slide AND d.session_id = l.session_id AND d.token_digest = a_token
$$;
COMMENT ON FUNCTION bloodcell.desk_end_lease(text, bigint) IS 'Gives a slide back.';

-- Kinds: review (calls in sight), blind (a cell of the random sample, or of an external round: that is stored apart, and is no
-- label), second (a second person, without the first one's label), adjudication. Each change names the newest label that the
-- person has seen; if there is a newer one, nothing is stored and the person is told. A change that arrives again, by its key,
-- is stored once.
CREATE FUNCTION bloodcell.desk_label(a_token text, a_kind text, a_slide bigint, a_changes jsonb)
RETURNS TABLE (key uuid, cell_id bigint, outcome text, told text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    who bloodcell.desk_session;
    holder text;
    change record;
    named record;
    of_slide bigint;
    newest bloodcell.label;
    own bloodcell.label;
    refused text;
    has_opened boolean;
    is_external boolean;
BEGIN
    who := bloodcell.desk_writer(a_token, CASE WHEN a_kind IN ('second', 'adjudication') THEN 'senior' ELSE 'reader' END);
    IF a_kind IS NULL OR a_kind NOT IN ('review', 'blind', 'second', 'adjudication') THEN
        RAISE EXCEPTION 'No kind of label is called %', a_kind USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF a_kind = 'review' THEN
        SELECT l.person INTO holder FROM bloodcell.slide_lease l
        WHERE l.slide_id = a_slide AND l.held_until > clock_timestamp() AND lower(l.person) <> lower(who.person) FOR UPDATE;
        IF holder IS NOT NULL THEN
            RAISE EXCEPTION 'The slide is with %', holder USING ERRCODE = 'object_in_use', HINT = holder;
        END IF;
        UPDATE bloodcell.slide_lease l SET held_until = greatest(l.held_until, clock_timestamp() + interval '2 minutes')
        WHERE l.slide_id = a_slide AND l.session_id = who.session_id;
    END IF;
    FOR change IN
        SELECT c.key, c.cell_id, c.label, c.seen, nullif(btrim(c.note, E' \t\n\r\f'), '') AS note
        FROM ROWS FROM (jsonb_to_recordset(a_changes) AS (key uuid, cell_id bigint, label text, seen bigint, note text))
            WITH ORDINALITY AS c (key, cell_id, label, seen, note, place)
        ORDER BY c.cell_id, c.place
    LOOP
        key := change.key;
        cell_id := change.cell_id;
        told := NULL;
        refused := NULL;
        -- one cell at a time: who comes second sees what the first one said
        SELECT c.slide_id INTO of_slide FROM bloodcell.cell c JOIN bloodcell.slide s USING (slide_id)
        WHERE c.cell_id = change.cell_id AND s.withdrawn_at IS NULL FOR NO KEY UPDATE OF c;
        SELECT k.cell_id, k.labelled_by INTO named FROM (
            SELECT l.cell_id, l.labelled_by FROM bloodcell.label l WHERE l.client_key = change.key
            UNION ALL
            SELECT o.cell_id, o.person FROM bloodcell.eqa_reading o WHERE o.client_key = change.key) k;
        IF FOUND THEN
            outcome := CASE WHEN named.cell_id = change.cell_id AND lower(named.labelled_by) = lower(who.person)
                            THEN 'stored' ELSE 'refused' END;
            told := CASE outcome WHEN 'refused' THEN 'key' END;
            RETURN NEXT;
            CONTINUE;
        END IF;
        SELECT * INTO newest FROM bloodcell.label l WHERE l.cell_id = change.cell_id ORDER BY l.label_id DESC LIMIT 1;
        SELECT l.* INTO own FROM bloodcell.label l
        WHERE l.cell_id = change.cell_id AND lower(l.labelled_by) = lower(who.person) ORDER BY l.label_id DESC LIMIT 1;
        has_opened := EXISTS (SELECT FROM bloodcell.slide_opening o
                              WHERE o.slide_id = of_slide AND lower(o.person) = lower(who.person));
        SELECT k.class, k.sub_label INTO named FROM bloodcell.cell_code k
        WHERE k.code = upper(change.label) OR k.class = lower(change.label)
        ORDER BY k.code <> upper(change.label) LIMIT 1;
        IF NOT FOUND AND change.label IS NOT NULL THEN
            refused := 'label';
        ELSIF FOUND AND lower(change.label) = named.class THEN
            named.sub_label := NULL;  -- a class by its name has no code
        END IF;
        is_external := a_kind = 'blind' AND EXISTS (
            SELECT FROM bloodcell.external_cells_for(who.person) e WHERE e.cell_id = change.cell_id);
        IF of_slide IS NULL OR a_kind = 'review' AND of_slide IS DISTINCT FROM a_slide THEN
            refused := 'cell';
        ELSIF change.label IS NULL AND (a_kind <> 'review' OR own.label_id IS NULL OR own.is_retraction OR own.is_adjudication)
        THEN
            refused := 'nothing_to_take_back';
        ELSIF bloodcell.has_invisible(change.note) THEN
            refused := 'note';
        ELSIF a_kind = 'blind' AND NOT is_external AND (has_opened OR own.label_id IS NOT NULL
                                    OR NOT EXISTS (SELECT FROM bloodcell.sampled_cell d WHERE d.cell_id = change.cell_id)) THEN
            refused := 'not_blind';
        ELSIF a_kind = 'second' AND own.label_id IS NOT NULL AND NOT own.is_retraction THEN
            refused := 'own_label';
        ELSIF a_kind = 'adjudication' AND EXISTS (
            SELECT FROM bloodcell.label l  -- also one that was taken back
            WHERE l.cell_id = change.cell_id AND lower(l.labelled_by) = lower(who.person) AND NOT l.is_adjudication) THEN
            refused := 'party';
        ELSIF a_kind = 'adjudication' AND NOT EXISTS (
            SELECT FROM bloodcell.current_label l WHERE l.cell_id = change.cell_id AND l.state = 'contested') THEN
            refused := 'not_contested';
        END IF;
        IF refused IS NOT NULL THEN
            outcome := 'refused';
            told := refused;
            RETURN NEXT;
            CONTINUE;
        END IF;
        IF is_external THEN
            INSERT INTO bloodcell.eqa_reading (cell_id, class, sub_label, person, session_id, client_key)
            VALUES (change.cell_id, named.class, named.sub_label, who.person, who.session_id, change.key);
            outcome := 'stored';
            RETURN NEXT;
            CONTINUE;
        END IF;
        IF a_kind IN ('review', 'adjudication') AND newest.label_id IS DISTINCT FROM change.seen THEN
            outcome := 'conflict';
            told := newest.labelled_by;
            RETURN NEXT;
            CONTINUE;
        END IF;
        INSERT INTO bloodcell.label (cell_id, class, sub_label, labelled_by, labelled_at, is_blind, is_adjudication, note,
                                     source, recorded_at, is_retraction, session_id, client_key)
        VALUES (change.cell_id, CASE WHEN change.label IS NOT NULL THEN named.class END,
                CASE WHEN change.label IS NOT NULL THEN named.sub_label END, coalesce(own.labelled_by, who.person),
                -- a file of labels may come from a computer whose clock is fast: what is said last still counts
                greatest(clock_timestamp(), (SELECT max(l.labelled_at) + interval '1 microsecond' FROM bloodcell.label l
                                             WHERE l.cell_id = change.cell_id)),
                a_kind = 'blind' OR a_kind = 'second' AND NOT has_opened, a_kind = 'adjudication',
                change.note, 'desk', clock_timestamp(), change.label IS NULL, who.session_id, change.key);
        outcome := 'stored';
        RETURN NEXT;
    END LOOP;
    IF a_kind = 'review' THEN  -- the answer shows the cells with their calls
        INSERT INTO bloodcell.slide_opening (slide_id, session_id, person)
        SELECT s.slide_id, who.session_id, who.person FROM bloodcell.slide s WHERE s.slide_id = a_slide
        ON CONFLICT DO NOTHING;
    END IF;
END $$;
COMMENT ON FUNCTION bloodcell.desk_label(text, text, bigint, jsonb) IS
    'Stores labels that a person gave at the desk, each once, and says of each whether it was stored, or why not.';

CREATE FUNCTION bloodcell.desk_comment(a_token text, a_slide bigint, a_cell bigint, a_text text, a_key uuid)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    who bloodcell.desk_session := bloodcell.desk_writer(a_token, 'reader');
BEGIN
    IF NOT EXISTS (SELECT FROM bloodcell.slide s LEFT JOIN bloodcell.cell c ON c.slide_id = s.slide_id AND c.cell_id = a_cell
                   WHERE s.slide_id = a_slide AND s.withdrawn_at IS NULL AND (a_cell IS NULL OR c.cell_id IS NOT NULL)) THEN
        RAISE EXCEPTION 'There is no such slide or cell' USING ERRCODE = 'no_data_found';
    END IF;
    IF bloodcell.has_invisible(a_text) THEN
        RAISE EXCEPTION 'The comment has characters that nobody sees' USING ERRCODE = 'check_violation';
    END IF;
    IF coalesce(length(btrim(a_text, E' \t\n\r\f')), 0) = 0 THEN
        RAISE EXCEPTION 'The comment is empty' USING ERRCODE = 'check_violation';
    END IF;
    INSERT INTO bloodcell.slide_comment (slide_id, cell_id, text, person, session_id, client_key)
    VALUES (a_slide, a_cell, btrim(a_text, E' \t\n\r\f'), who.person, who.session_id, a_key)
    ON CONFLICT (client_key) DO NOTHING;
    IF NOT EXISTS (SELECT FROM bloodcell.slide_comment m WHERE m.client_key = a_key AND m.slide_id = a_slide
                   AND m.cell_id IS NOT DISTINCT FROM a_cell AND lower(m.person) = lower(who.person)) THEN
        RAISE EXCEPTION 'The same request was used for something else' USING ERRCODE = 'check_violation';
    END IF;
    -- the answer shows what others wrote of the cells
    INSERT INTO bloodcell.slide_opening (slide_id, session_id, person) VALUES (a_slide, who.session_id, who.person)
    ON CONFLICT DO NOTHING;
END $$;
COMMENT ON FUNCTION bloodcell.desk_comment(text, bigint, bigint, text, uuid) IS
    'Stores a comment on a slide or a cell, once for each key.';

CREATE FUNCTION bloodcell.desk_prove(a_token text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE bloodcell.desk_session d SET proved_at = clock_timestamp() WHERE d.token_digest = a_token AND d.ended_at IS NULL
$$;
COMMENT ON FUNCTION bloodcell.desk_prove(text) IS
    'Records that the person of a session has just been authenticated again, which a signature needs.';

CREATE FUNCTION bloodcell.desk_sign(
    a_token text, a_slide bigint, a_number integer, a_digest text, a_state text, a_reason text
) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    who bloodcell.desk_session := bloodcell.desk_writer(a_token, 'reader');
    of_slide bloodcell.slide;
    holder text;
    signed integer;
BEGIN
    IF who.proved_at IS NULL OR who.proved_at < clock_timestamp() - interval '2 minutes' THEN
        RAISE EXCEPTION 'A signature needs the password again' USING ERRCODE = 'invalid_password';
    END IF;
    SELECT * INTO of_slide FROM bloodcell.slide s WHERE s.slide_id = a_slide AND s.withdrawn_at IS NULL FOR NO KEY UPDATE;
    SELECT l.person INTO holder FROM bloodcell.slide_lease l
    WHERE l.slide_id = a_slide AND l.held_until > clock_timestamp() AND lower(l.person) <> lower(who.person);
    IF holder IS NOT NULL THEN
        RAISE EXCEPTION 'The slide is with %', holder USING ERRCODE = 'object_in_use', HINT = holder;
    END IF;
    IF NOT EXISTS (SELECT FROM bloodcell.result r
                   WHERE r.slide_id = a_slide AND r.number = a_number AND r.digest = a_digest) THEN
        RAISE EXCEPTION 'Version % of slide % is not the one that was seen', a_number, of_slide.barcode
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    signed := bloodcell.sign_newest(of_slide.barcode, a_number, a_state, a_reason, who.person, who.session_id);
    UPDATE bloodcell.desk_session d SET proved_at = NULL WHERE d.session_id = who.session_id;
    RETURN signed;
END $$;
COMMENT ON FUNCTION bloodcell.desk_sign(text, bigint, integer, text, text, text) IS
    'Signs the version with this digest as the person of a session who has just been authenticated again.';

CREATE FUNCTION bloodcell.desk_decide_message(a_token text, a_message bigint, a_action text, a_reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    who bloodcell.desk_session := bloodcell.desk_writer(a_token, 'senior');
    now_in text;
BEGIN
    IF bloodcell.has_invisible(a_reason) THEN
        RAISE EXCEPTION 'The reason has characters that nobody sees' USING ERRCODE = 'no_data_found';
    END IF;
    SELECT state INTO now_in FROM bloodcell.outgoing_message WHERE message_id = a_message FOR NO KEY UPDATE;
    IF now_in IS DISTINCT FROM 'held' THEN
        RAISE EXCEPTION 'The message is not rejected any more' USING ERRCODE = 'no_data_found';
    END IF;
    PERFORM bloodcell.decide_on_messages(ARRAY[a_message], a_action, trim(a_reason), who.person);
END $$;
COMMENT ON FUNCTION bloodcell.desk_decide_message(text, bigint, text, text) IS
    'Has a rejected message sent again (replay), or never (skip), as the person of a session.';

CREATE FUNCTION bloodcell.desk_override_check(a_token text, a_check bigint, a_reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    who bloodcell.desk_session := bloodcell.desk_writer(a_token, 'senior');
BEGIN
    PERFORM bloodcell.override_check_as(a_check, a_reason, who.person, who.session_id);
END $$;
COMMENT ON FUNCTION bloodcell.desk_override_check(text, bigint, text) IS
    'Overrides a failed check of the quality control as the person of a session.';

DO $$ DECLARE function regprocedure; BEGIN
    FOR function IN SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = 'bloodcell'::regnamespace AND starts_with(proname, 'desk_')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', function);
        IF function::text !~ 'desk_writer' THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO bloodcell_desk', function);
        END IF;
    END LOOP;
END $$;
