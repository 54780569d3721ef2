-- Views find the latest day by reading all open days again.

drop index marts.mailbox_analytics_open_days;
