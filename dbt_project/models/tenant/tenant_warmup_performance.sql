{{ config(alias='warmup_performance') }}

{{ tenant_view('warmup_performance') }}
