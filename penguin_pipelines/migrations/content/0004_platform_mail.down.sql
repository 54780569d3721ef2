-- Takes back 0004_platform_mail.
drop table if exists retention_policies;
drop table if exists notifications;
drop table if exists transactional_emails;
