-- The version of the posting rules that were in force when an order's data was stored; 0: there were none. With the
-- data and data_at it fixes what the order posts, for ever. Null beside data: stored before there was a ledger.
ALTER TABLE orders ADD COLUMN posting_rules int;
