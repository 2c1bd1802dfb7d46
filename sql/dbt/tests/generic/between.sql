{% test between(model, column_name, lower=none, upper=none) %}

-- Rows whose value is outside the bounds, or is NaN, which Postgres takes for larger than any number.
SELECT {{ column_name }}
FROM {{ model }}
WHERE CAST({{ column_name }} AS double precision) = 'NaN'
    {% if lower is not none %} OR {{ column_name }} < {{ lower }} {% endif %}
    {% if upper is not none %} OR {{ column_name }} > {{ upper }} {% endif %}

{% endtest %}
