{{ config(alias='billing_usage') }}

{{ tenant_view('billing_usage') }}
