-- name: known_receivers
SELECT name, protocol, gets_unsigned, removed_at FROM bloodcell.receiver

-- name: add_receiver
INSERT INTO bloodcell.receiver (name, protocol, gets_unsigned) VALUES (:name, :protocol, :gets_unsigned)
ON CONFLICT (name) DO UPDATE SET protocol = EXCLUDED.protocol, gets_unsigned = EXCLUDED.gets_unsigned, removed_at = NULL

-- name: remove_receiver
UPDATE bloodcell.receiver SET removed_at = now() WHERE name = :name AND removed_at IS NULL
