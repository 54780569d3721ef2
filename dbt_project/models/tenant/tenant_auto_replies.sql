{{ config(alias='auto_replies') }}

{{ tenant_view('auto_replies') }}
