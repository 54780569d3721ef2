{{ config(alias='ip_performance') }}

{{ tenant_view('ip_performance') }}
