{{ config(alias='lead_scores') }}

{{ tenant_view('lead_scores') }}
