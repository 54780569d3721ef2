{{ config(alias='campaign_quality') }}

{{ tenant_view('campaign_quality') }}
