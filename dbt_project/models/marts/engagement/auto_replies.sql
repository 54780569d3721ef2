{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

-- Answers of machines (out of office, ticket systems), which count as no reply: apart, so that nobody misses them. By the day of
-- the send like every answer, each message once.
with answered as (

    select distinct r.tenant_id, r.storage_key
    from {{ ref('stg_content__email_replies') }} as r
    where r.is_auto_reply

)

select
    m.tenant_id,
    m.company_id,
    m.campaign_id,
    campaigns.name as campaign_name,
    m.activity_date,
    count(*)::integer as auto_replied,
    sum(m.replied)::integer as also_replied,
    {{ is_final_as_of('m.activity_date', data_as_of()) }} as is_final,
    {{ data_as_of() }} as data_as_of
from answered
inner join {{ ref('int_messages') }} as m on answered.tenant_id = m.tenant_id and answered.storage_key = m.storage_key
left join {{ ref('dim_campaigns') }} as campaigns on m.tenant_id = campaigns.tenant_id and m.campaign_id = campaigns.campaign_id
where not m.is_warmup
group by m.tenant_id, m.company_id, m.campaign_id, campaigns.name, m.activity_date
