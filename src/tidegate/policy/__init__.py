"""What the operator wrote in tidegate.toml: read, checked, explained.

In reading order:

- `problems`: `Problem` and `SettingsError`, everything that can be wrong, each with place and fix; `BadValue`;
- `toml`: a file's values, and the line of each;
- `units`, `address`, `values`: what is written as text, as values: times, sizes, addresses, files;
- `schema`: the settings and their keys, the one source of validation and documentation;
- `checks`: what must hold between settings.

The language of limits:

- `model`: a policy as values, classes and limits; what all that follows is about;
- `fields`: tables read key by key; `rates`, `patterns`, `keys`, `actions`: what their values say;
- `classes`, `limits`: the keys of `[class.NAME]` and `[[limit]]`, the one source of reading and documentation;
- `events`, `rules`: what means something for which event, and what must hold between the keys of a limit;
- `language`: the two kinds of table of a document, as a policy;
- `captures`, `ban_keys`: what classes remember of a client, and whom a ban keeps out;
- `cautions`, `enforced`: what is allowed but hardly meant, and what is not enforced yet;
- `stages`: which limits on `connect` are decided at accept;
- `compile`, `tree`: the policy as the engine reads it; `strictness`, `counts`: which numbers a client gets, and what
  was counted.

All of it:

- `explain`, `words`: what has been found wrong, in words;
- `settings`: `load`, and `Settings`, what the rest of Tidegate works with;
- `reference`: docs/configuration.md, made from the keys.
"""
