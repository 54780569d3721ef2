{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

{{ queue_figures([(utc_date('event_hour'), 'activity_date'), ('queue_name', 'queue_name')]) }}
