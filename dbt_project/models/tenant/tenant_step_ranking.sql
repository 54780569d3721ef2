{{ config(alias='step_ranking') }}

{{ tenant_view('step_ranking') }}
