{{ config(alias='campaign_performance') }}

{{ tenant_view('campaign_performance') }}
