{{ config(alias='suppression') }}

{{ tenant_view('suppression') }}
