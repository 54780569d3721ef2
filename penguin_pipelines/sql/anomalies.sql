-- name: daily_results
-- Results of every tenant and send date within reach of the comparison.
select tenant_id::text, activity_date, sum(sent) as sent, sum(delivered) as delivered, sum(bounced) as bounced, sum(replied) as replied
from marts.campaign_analytics
where activity_date >= %(since)s and activity_date < %(today)s
group by tenant_id, activity_date
order by tenant_id, activity_date
