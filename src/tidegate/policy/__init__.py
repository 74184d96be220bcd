"""What the operator wrote in tidegate.toml: read, checked, explained.

In reading order:

- `problems`: `Problem` and `SettingsError`, everything that can be wrong, each with place and fix; `BadValue`;
- `toml`: a file's values, and the line of each;
- `units`, `address`, `values`: what is written as text, as values: times, sizes, addresses, files;
- `schema`: the tables and their keys, the one source of validation and documentation;
- `checks`: what must hold between keys;
- `explain`: the validator's errors, in words;
- `settings`: `load`, and `Settings`, what the rest of Tidegate works with;
- `reference`: docs/configuration.md, made from the schema.
"""
