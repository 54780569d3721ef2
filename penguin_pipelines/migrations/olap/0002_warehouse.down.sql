-- Takes back the warehouse: every copied and derived row is lost and can be read and built again.
-- Raw tables and views belong to other roles, so the schemas go with what is in them.
drop schema if exists ops cascade;
drop schema if exists archive cascade;
drop schema if exists tenant cascade;
drop schema if exists marts cascade;
drop schema if exists intermediate cascade;
drop schema if exists staging cascade;
drop schema if exists raw_queue cascade;
drop schema if exists raw_content cascade;
drop schema if exists raw_oltp cascade;
