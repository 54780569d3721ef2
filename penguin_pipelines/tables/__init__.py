"""One YAML file per source with one stanza per table. Data only; `lib/specs.py` reads it and explains the fields."""
