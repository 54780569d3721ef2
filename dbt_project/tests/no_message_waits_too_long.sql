-- Fails if a message is undecided although its silence has lasted long enough to mean delivery.
select m.tenant_id, m.storage_key
from {{ ref('int_messages') }} as m
where m.delivered = 0 and m.bounced = 0 and m.failed_time is null
    and m.sent_time <= {{ as_of() }} - interval '{{ var("silence_hours") }} hours'
