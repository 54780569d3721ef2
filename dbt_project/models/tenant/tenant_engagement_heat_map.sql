{{ config(alias='engagement_heat_map') }}

{{ tenant_view('engagement_heat_map') }}
