{{ config(alias='bounce_reasons') }}

{{ tenant_view('bounce_reasons') }}
