{{ config(alias='campaign_performance_summary') }}

{{ tenant_view('campaign_performance_summary') }}
