{# Bounces in their two dimensions (RFC 3463): permanent or temporary, and what they are about. Receivers use the codes loosely,
   so wording decides where it is plain. All of it moves with bounce_rule_version. #}

{# Enhanced status code, from the code of the report or else from its text; an IP address is none. #}
{% macro bounce_status(code, text) -%}
    coalesce(
        substring({{ code }} from '^\s*([245]\.\d{1,3}\.\d{1,3})'),
        substring({{ text }} from '(?:^|[^0-9.])([245]\.\d{1,3}\.\d{1,3})(?!\.?\d)')
    )
{%- endmacro %}

{# permanent or temporary; without a code as reported. #}
{% macro bounce_permanence(status, bounce_type) -%}
    case
        when {{ status }} like '5%' then 'permanent'
        when {{ status }} like '4%' then 'temporary'
        when {{ bounce_type }} = 'hard' then 'permanent'
        else 'temporary'
    end
{%- endmacro %}

{# What it is about: policy, address, mailbox, system, network, protocol, content or other. A code of policy (x.7.x) is policy
   whatever the text says; else plain words for a missing person, then words of refusal, then vaguer words, then the code. #}
{% macro bounce_subject(status, text) -%}
    case
        when {{ status }} ~ '^.\.7\.' then 'policy'
        when {{ text }} ~* '(user unknown|unknown (user|recipient|e-?mail|address)|no such (user|mailbox|recipient|address|person)|does ?n.?t exist|does not\s+exist|not exist|recipient ?not ?found|no mailbox (here|by that name))' then 'address'
        when {{ text }} ~* '(spam|unsolicited|block(ed|list)|(black|deny) ?list|reputation|policy|policies|content rejected|banned|dmarc|\mspf\M|dkim|unauthenticated|not authenticated|gr[ae]y ?list|rate limit|too many (messages|connections|emails)|spamhaus)' then 'policy'
        when {{ text }} ~* '(quota|mailbox (is )?full|full mailbox|(mailbox|account) (is |has been )?(disabled|inactive|suspended)|is disabled)' then 'mailbox'
        when {{ text }} ~* '(mailbox (unavailable|not found|unknown)|address rejected|invalid (recipient|mailbox|address)|bad destination)' then 'address'
        else case substring({{ status }} from '^.\.(\d+)\.')
            when '1' then 'address' when '2' then 'mailbox' when '3' then 'system' when '4' then 'network' when '5' then 'protocol'
            when '6' then 'content' else 'other'
        end
    end
{%- endmacro %}

{# Whose fault: the sender's (policy, content, a bad sender's address, a message too large) suppresses nobody; the recipient's
   (address, mailbox); else of the way between them. #}
{% macro bounce_fault(status, subject) -%}
    case
        when {{ subject }} in ('policy', 'content') or coalesce({{ status }} ~ '^.\.(1\.7|1\.8|2\.3|3\.4)$', false) then 'sender'
        when {{ subject }} in ('address', 'mailbox') then 'recipient'
        else 'way'
    end
{%- endmacro %}
