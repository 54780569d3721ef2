{{ config(alias='campaign_comparison') }}

{{ tenant_view('campaign_comparison') }}
