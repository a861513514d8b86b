-- The holder that conflicts with a request, as a 'locked' row: of several, the one that expires last. If the
-- key has no holder, the row has only NULLs.
CREATE OR REPLACE FUNCTION lock_holder(p_key uuid) RETURNS SETOF shard.lock_news LANGUAGE sql AS $$
    (SELECT 'locked', l.lock_id, l.token, l.expires_at, l.owner, l.exclusive, NULL::bigint
     FROM shard.locks l WHERE l.key = p_key AND l.state = 'h' ORDER BY l.expires_at DESC LIMIT 1)
    UNION ALL
    (SELECT 'locked', NULL, NULL, NULL, NULL, NULL, NULL
     WHERE NOT EXISTS (SELECT FROM shard.locks l WHERE l.key = p_key AND l.state = 'h'))
$$;
