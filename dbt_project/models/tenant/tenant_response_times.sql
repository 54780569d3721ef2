{{ config(alias='response_times') }}

{{ tenant_view('response_times') }}
