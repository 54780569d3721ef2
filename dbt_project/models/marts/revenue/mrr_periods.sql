{{ config(materialized='view') }}

-- Revenue on any date d: sum(mrr_cents) where valid_from <= d and (valid_until > d or valid_until is null).
select tenant_id, valid_from, valid_until, mrr_cents, first_paid, {{ data_as_of(['oltp']) }} as data_as_of
from {{ ref('int_mrr_changes') }}
