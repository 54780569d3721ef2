{{ config(alias='send_hour_performance') }}

{{ tenant_view('send_hour_performance') }}
