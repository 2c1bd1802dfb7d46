-- name: sessions
SELECT session_id, person, roles, method, opened_at, seen_at, ended_at, ended_for, is_open
FROM bloodcell.desk_session_history ORDER BY is_open DESC, session_id DESC LIMIT :most
