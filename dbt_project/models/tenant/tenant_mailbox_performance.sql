{{ config(alias='mailbox_performance') }}

{{ tenant_view('mailbox_performance') }}
