-- Takes back the warehouse: every copied and derived row is lost and can be read and built again.
-- Raw tables and views belong to other roles, so the schemas go with what is in them.
drop schema if exists ops, archive, tenant, marts, intermediate, staging, raw_queue, raw_content, raw_oltp cascade;
