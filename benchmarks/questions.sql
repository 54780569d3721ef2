-- The frozen questions: what a tenant's screens and analysts ask most. They read
-- the views of schema `tenant` and nothing else, in words that Postgres and DuckDB both know. `:today` is the last day
-- of the history.

-- name: campaign_funnel_30_days
-- Campaign page: sent to answered over the last 30 days.
select sum(sent), sum(delivered), sum(opened_tracked), sum(clicked_tracked), sum(replied),
  round(100.0 * sum(replied) / nullif(sum(delivered), 0), 2)
from campaign_performance
where activity_date > :today - 30;

-- name: trend_90_days
-- Campaign page: trend by day over 90 days.
select activity_date, sum(sent), sum(delivered), sum(replied), bool_and(is_final)
from campaign_performance
where activity_date > :today - 90
group by activity_date
order by activity_date;

-- name: trend_by_month
-- Campaign page: the same by month, the rate from the sums.
select date_trunc('month', activity_date), sum(sent), round(100.0 * sum(opened_tracked) / nullif(sum(delivered), 0), 2)
from campaign_performance
group by date_trunc('month', activity_date)
order by 1;

-- name: best_campaigns
-- Workspace home: campaigns by reply rate, with enough mail to say so.
select campaign_id, campaign_name, sent, delivered, reply_rate
from campaign_performance_summary
where delivered >= 100
order by reply_rate desc, campaign_id
limit 10;

-- name: campaigns_that_bounce
-- Alert settings: campaigns over 3 % bounces in the last week.
select campaign_id, sum(sent), sum(bounced)
from campaign_performance
where activity_date > :today - 7
group by campaign_id
having sum(sent) >= 50 and 100.0 * sum(bounced) / sum(sent) > 3
order by campaign_id;

-- name: deliverability_of_campaigns
-- Campaign page: the score of each campaign and its band.
select campaign_id, deliverability_score, deliverability_band, estimated_inbox_rate, engagement_score
from campaign_quality
order by deliverability_score, campaign_id;

-- name: step_funnel
-- Campaign page: drop-off from step to step in every campaign.
select campaign_id, step_order, sent, retention_from_first, dropoff_from_previous, reply_rate
from sequence_step_funnel
order by campaign_id, step_order;

-- name: best_steps
-- Client report: the steps that are answered most.
select campaign_id, step_order, template_name, reply_rate, reply_rate_low, reply_rate_high
from step_ranking
where rank_by_replies = 1
order by reply_rate desc, campaign_id;

-- name: compare_campaigns
-- Campaign page: is the difference in replies between two campaigns real.
select campaign_a, campaign_b, rate_a, rate_b, difference, p_value, verdict
from campaign_comparison
where measure = 'reply_rate' and verdict = 'real'
order by p_value, campaign_a, campaign_b
limit 20;

-- name: best_hour_to_send
-- Campaign page: weekday and hour of sending that get most answers.
select weekday, hour, sum(sent), round(100.0 * sum(replied) / nullif(sum(delivered), 0), 2)
from send_hour_performance
group by weekday, hour
having sum(delivered) >= 100
order by 4 desc nulls last, weekday, hour
limit 5;

-- name: engagement_by_device
-- Campaign page: devices and mail clients of the last 30 days.
select device_type, mail_client, sum(opens), sum(clicks)
from campaign_engagement_hourly
where event_hour > :today - 30
group by device_type, mail_client
order by 3 desc, device_type, mail_client;

-- name: engagement_by_hour
-- Campaign page: the hour chart of the last week.
select event_hour, sum(opens), sum(clicks), sum(replies)
from campaign_engagement_hourly
where event_hour > :today - 7
group by event_hour
order by event_hour;

-- name: hottest_leads
-- Client report: whom to call first.
select lead_id, lead_score, replied, last_engaged
from lead_scores
where is_hot
order by lead_score desc, last_engaged desc, lead_id
limit 50;

-- name: leads_of_a_month
-- Client report: people who answered, by the month of the first message.
select date_trunc('month', first_sent), count(*), sum(case when replied > 0 then 1 else 0 end)
from lead_performance
group by date_trunc('month', first_sent)
order by 1;

-- name: mailboxes_now
-- Mailbox page: health and room of every mailbox on its latest day.
select mailbox_id, domain, health_score, health_band, current_volume, daily_limit, utilisation
from (
  select *, row_number() over (partition by mailbox_id order by activity_date desc) as latest
  from mailbox_performance
  where activity_date > :today - 14
) as days
where latest = 1
order by health_score nulls first, mailbox_id;

-- name: silent_mailboxes
-- Customer success: mailboxes that sent nothing for a week.
select mailbox_id, max(activity_date)
from mailbox_performance
where sent > 0
group by mailbox_id
having max(activity_date) < :today - 7
order by mailbox_id;

-- name: domains_30_days
-- Domain page: volume and results of each domain over the last 30 days.
select domain_id, domain, sum(sent), round(100.0 * sum(bounced) / nullif(sum(sent), 0), 2), min(domain_health_score)
from domain_performance
where activity_date > :today - 30
group by domain_id, domain
order by domain;

-- name: clients_of_an_agency
-- Agency command centre: which client needs attention.
select company_id, company_name, workspace_health_score, health_colour, sent, reply_rate
from agency_client_health
order by workspace_health_score nulls last, company_id;

-- name: warmup_progress
-- Warmup page: how far each mailbox is.
select mailbox_id, max(progress_percentage), sum(sent), sum(planned_volume)
from warmup_performance
where activity_date > :today - 60
group by mailbox_id
order by mailbox_id;

-- name: usage_of_the_month
-- Billing page: what is used, what is left, what it will be.
select period_start, emails_used, emails_limit, emails_percent, highest_percent, alert_level, projected_emails
from billing_usage
order by period_start desc
limit 2;
