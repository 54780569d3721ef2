{{ config(alias='sequence_step_funnel') }}

{{ tenant_view('sequence_step_funnel') }}
