{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

{{ queue_figures([('event_hour', 'event_hour'), ('queue_name', 'queue_name'), ('job_type', 'job_type')]) }}
