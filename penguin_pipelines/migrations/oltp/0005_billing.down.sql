-- Takes back 0005_billing.
drop table if exists payments;
drop table if exists subscription_changes;
drop table if exists subscription_addons;
drop table if exists subscriptions;
drop table if exists plans;
