{{ config(alias='provider_compliance') }}

{{ tenant_view('provider_compliance') }}
