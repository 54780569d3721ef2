{{ config(alias='domain_performance') }}

{{ tenant_view('domain_performance') }}
