-- The latest day with mail, on which the trailing windows of views end: one probe instead of all open days of all mailboxes.
-- When: before the deploy. Locks: SHARE on the table while the index is made, seconds; builds wait, readers do not.

create index mailbox_analytics_open_days on marts.mailbox_analytics (activity_date) where not is_final;
