{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

-- Counters are summed over the tenants of an address; its snapshots are the same in all their rows.
with days as (

    select
        f.smtp_ip_address_id,
        f.activity_date,
        min(f.vps_instance_id::text)::uuid as vps_instance_id,
        {{ message_counters('f') }},
        count(f.tenant_id)::integer as tenants_served,
        min(f.ip_status) as ip_status,
        min(f.reputation_state) as reputation_state,
        min(f.reputation_score) as reputation_score,
        max(f.blacklist_count) as blacklist_count,
        max(f.domains_assigned) as domains_assigned,
        sum(f.ip_cost) as ip_cost,
        sum(f.vps_cost) as vps_cost,
        coalesce(sum(f.ip_cost + f.vps_cost) filter (where f.tenant_id is null), 0) as idle_cost,
        bool_and(f.is_final) as is_final
    from {{ ref('infrastructure_analytics') }} as f
    group by f.smtp_ip_address_id, f.activity_date

),

rated as (

    select *, {{ rates() }} from days

),

alerted as (

    select
        *,
        -- Delivery, reputation and engagement, 30 to 40 to 30; each goes from 0 to 100.
        round(0.3 * 100.0 * delivered / nullif(sent, 0) + 0.4 * reputation_score + 0.3 * {{ engagement_score() }}, 2) as performance_index,
        {{ alert_of(act='bounce_rate > 15', warning='bounce_rate > 10', minimum='sent') }} as bounce_alert,
        {{ spam_alert() }} as spam_alert,
        {{ delivery_alert() }} as delivery_alert,
        {{ alert_of(warning='reputation_score < 70') }} as reputation_alert,
        {{ alert_of(act="blacklist_count > 0 and reputation_state = 'critical'", warning='blacklist_count > 0') }} as blacklist_alert
    from rated

)

select
    alerted.smtp_ip_address_id,
    addresses.ip_address,
    alerted.vps_instance_id,
    alerted.activity_date,
    {{ counters('alerted') }},
    alerted.delivery_rate,
    alerted.bounce_rate,
    alerted.hard_bounce_rate,
    alerted.spam_rate,
    alerted.open_rate,
    alerted.reply_rate,
    alerted.ip_status,
    alerted.reputation_state,
    alerted.reputation_score,
    alerted.blacklist_count,
    alerted.domains_assigned,
    alerted.tenants_served,
    alerted.performance_index,
    alerted.bounce_alert,
    alerted.spam_alert,
    alerted.delivery_alert,
    alerted.reputation_alert,
    alerted.blacklist_alert,
    {{ most_serious(['bounce_alert', 'spam_alert', 'delivery_alert', 'reputation_alert', 'blacklist_alert']) }} as alert_level,
    alerted.ip_cost,
    alerted.vps_cost,
    alerted.idle_cost,
    alerted.is_final,
    {{ data_as_of() }} as data_as_of
from alerted
left join {{ ref('int_ip_addresses') }} as addresses on alerted.smtp_ip_address_id = addresses.smtp_ip_address_id
