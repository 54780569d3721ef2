-- Fails if an idle row has traffic, shares its day with a tenant, or does not agree with the other rows on the snapshots.
{{ config(meta={'dagster': {'ref': {'name': 'infrastructure_analytics'}}}) }}
select f.activity_date, f.smtp_ip_address_id
from {{ ref('infrastructure_analytics') }} as f
{%- if not everything_is_touched_now() %}
where f.activity_date > {{ as_of_date() }} - {{ var('final_after_days') }}
    -- By the day alone: an idle row has no tenant to be found by.
    or f.activity_date in (select t.activity_date from {{ ref('int_touched_messages') }} as t)
{%- endif %}
group by f.activity_date, f.smtp_ip_address_id
having (bool_or(f.tenant_id is null) and (count(*) > 1 or sum(f.sent) > 0))
    or min((f.vps_instance_id, f.ip_status, f.reputation_state, f.reputation_score, f.blacklist_count, f.domains_assigned)::text)
    <> max((f.vps_instance_id, f.ip_status, f.reputation_state, f.reputation_score, f.blacklist_count, f.domains_assigned)::text)
