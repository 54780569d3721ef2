-- Takes back the ledger of corrections; its entries are lost and cannot be computed again.
drop trigger if exists refuse_change_of_closed_window on marts.billing_analytics;
drop function if exists penguin.refuse_change_of_closed_window();
drop table if exists marts.billing_corrections;
