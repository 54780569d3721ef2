{{ config(alias='lead_performance') }}

{{ tenant_view('lead_performance') }}
