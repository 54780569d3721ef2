{{ config(alias='campaign_engagement_hourly') }}

{{ tenant_view('campaign_engagement_hourly') }}
