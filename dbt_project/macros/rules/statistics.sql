{# Bounds of the Wilson interval at 95 %, in percent with two decimals; null for an empty sample. #}
{% macro wilson(side, hits, size) -%}
    {%- set z = var('interval_z') -%}
    round((100 * (
        ({{ hits }} + {{ z }}::float8 ^ 2 / 2) / (nullif({{ size }}, 0) + {{ z }}::float8 ^ 2)
        {{ '-' if side == 'low' else '+' }} {{ z }}::float8 / (nullif({{ size }}, 0) + {{ z }}::float8 ^ 2)
        * sqrt(greatest(0, {{ hits }}::float8 * ({{ size }} - {{ hits }}) / nullif({{ size }}, 0)) + {{ z }}::float8 ^ 2 / 4)
    ))::numeric, 2)
{%- endmacro %}

{# z of the two-proportion test with pooled variance; null where a sample is empty or all or none of both hit. #}
{% macro two_proportion_z(hits_a, size_a, hits_b, size_b) -%}
    (
        ({{ hits_a }}::float8 / nullif({{ size_a }}, 0) - {{ hits_b }}::float8 / nullif({{ size_b }}, 0))
        / nullif(sqrt(
            greatest(0, ({{ hits_a }} + {{ hits_b }})::float8 / nullif({{ size_a }} + {{ size_b }}, 0)
            * (1 - ({{ hits_a }} + {{ hits_b }})::float8 / nullif({{ size_a }} + {{ size_b }}, 0))
            * (1.0::float8 / nullif({{ size_a }}, 0) + 1.0::float8 / nullif({{ size_b }}, 0)))
        ), 0)
    )
{%- endmacro %}

{# Two-sided p of a z: erfc(|z| / sqrt 2) by the Chebyshev fit of Numerical Recipes, right to 1.2e-7 of its value; Postgres has
   erfc from 16 only. Beyond 35 it is held there, for nothing smaller can be written. #}
{% macro two_sided_p(z) -%}
    {%- set x = "(least(abs(" ~ z ~ "), 35) / sqrt(2::float8))" -%}
    {%- set t = "(1 / (1 + 0.5 * " ~ x ~ "))" -%}
    {%- set sum = namespace(value='0.17087277') -%}
    {%- for c in ['-0.82215223', '1.48851587', '-1.13520398', '0.27886807', '-0.18628806', '0.09678418', '0.37409196', '1.00002368'] -%}
        {%- set sum.value = c ~ ' + ' ~ t ~ ' * (' ~ sum.value ~ ')' -%}
    {%- endfor -%}
    case when {{ z }} is not null then {{ t }} * exp(-({{ x }} ^ 2) - 1.26551223 + {{ t }} * ({{ sum.value }})) end
{%- endmacro %}
