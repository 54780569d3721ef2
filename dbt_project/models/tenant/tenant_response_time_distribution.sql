{{ config(alias='response_time_distribution') }}

{{ tenant_view('response_time_distribution') }}
