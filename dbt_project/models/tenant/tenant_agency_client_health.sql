{{ config(alias='agency_client_health') }}

{{ tenant_view('agency_client_health') }}
