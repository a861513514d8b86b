-- A balance reads few rows of few partitions, but planning it costs more the more partitions there are: with three years of
-- months four fifths of its time. One plan is kept, and leaves out partitions when it runs. Batches that are not aggregated
-- yet are few and found by index; a hash join would read all events of all months.
ALTER FUNCTION account_sums(
    bigint, text, text, text, timestamptz, timestamptz, timestamptz, timestamptz, timestamptz, bigint
) SET plan_cache_mode = force_generic_plan SET enable_hashjoin = off SET enable_mergejoin = off;
