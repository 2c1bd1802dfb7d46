-- Limits belong to logins: those of a role that a login is a member of have no effect.
CREATE OR REPLACE FUNCTION bloodcell.limit_logins() RETURNS SETOF name
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    login name;
    given text[];
    -- the same time-outs as in bloodcell.storage.connections, which psql gets
    limits text[] := ARRAY[['lock_timeout', '10s'], ['statement_timeout', '10min'],
                           ['idle_in_transaction_session_timeout', '5min'], ['transaction_timeout', '1h'],
                           ['max_parallel_workers_per_gather', '0'], ['temp_file_limit', '10GB']];
BEGIN
    FOR login IN
        SELECT r.rolname FROM pg_roles r
        WHERE r.rolcanlogin AND r.rolconnlimit = -1
          AND (pg_has_role(r.oid, 'bloodcell_reader', 'MEMBER') OR pg_has_role(r.oid, 'bloodcell_reviewer', 'MEMBER'))
          AND NOT pg_has_role(r.oid, 'bloodcell_app', 'MEMBER') AND NOT pg_has_role(r.oid, 'bloodcell_owner', 'MEMBER')
        ORDER BY 1
    LOOP
        BEGIN
            EXECUTE format('ALTER ROLE %I CONNECTION LIMIT 5', login);
            FOREACH given SLICE 1 IN ARRAY limits LOOP
                -- transaction_timeout came with Postgres 17, and only a superuser may set temp_file_limit
                IF EXISTS (SELECT FROM pg_settings s WHERE s.name = given[1]
                           AND (s.context = 'user' OR has_parameter_privilege(current_user, s.name, 'SET'))) THEN
                    EXECUTE format('ALTER ROLE %I SET %I = %L', login, given[1], given[2]);
                END IF;
            END LOOP;
        EXCEPTION WHEN insufficient_privilege THEN
            RETURN NEXT login;
        END;
    END LOOP;
END $$;
COMMENT ON FUNCTION bloodcell.limit_logins() IS
    'Limits connections, time and temporary files of every reader''s and reviewer''s login that has no connection limit. '
    'Returns the logins that the caller has no right to change.';
