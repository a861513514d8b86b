-- Heartbeat: the process is alive for four seconds from now. Written once a second at most, so that
-- concurrent calls of one process do not wait for its row.
CREATE OR REPLACE FUNCTION say_alive(p_process uuid) RETURNS void LANGUAGE sql AS $$
    INSERT INTO shard.lock_processes
    SELECT p_process, clock_timestamp() + interval '4 seconds'
    WHERE NOT EXISTS (SELECT FROM shard.lock_processes p
                      WHERE p.process = p_process AND p.alive_until > clock_timestamp() + interval '3 seconds')
    ON CONFLICT (process) DO UPDATE SET alive_until = excluded.alive_until;
$$;
