-- Takes back 0002_messages.
drop table if exists attachments;
drop view if exists content_inbox_message_refs;
drop table if exists email_messages;
drop table if exists email_content;
drop table if exists content_objects;
