{{ config(alias='sequence_step_exposure') }}

{{ tenant_view('sequence_step_exposure') }}
