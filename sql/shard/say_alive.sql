-- For four seconds from now; said once a second at most, so that callers do not wait for one another's row.
CREATE OR REPLACE FUNCTION shard.say_alive(p_process uuid) RETURNS void LANGUAGE sql AS $$
    INSERT INTO shard.lock_processes
    SELECT p_process, clock_timestamp() + interval '4 seconds'
    WHERE NOT EXISTS (SELECT FROM shard.lock_processes p
                      WHERE p.process = p_process AND p.alive_until > clock_timestamp() + interval '3 seconds')
    ON CONFLICT (process) DO UPDATE SET alive_until = excluded.alive_until;
$$;
