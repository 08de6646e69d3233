"""The command line of `vllm serve` as vLLM will read it, so that what stands in a file counts like what was typed."""

import json


def expand(arguments: list[str]) -> list[tuple[str, str]]:
    """(flag, value) of every option, a later one wins. What the file of --config says comes first, underscores are dashes."""
    words = list(arguments)
    if "--config" in words[:-1]:  # vLLM takes the file in this form alone
        at = words.index("--config")
        words = _from_file(words[at + 1]) + words[:at] + words[at + 2 :]
    pairs = []
    for word, following in zip(words, [*words[1:], ""]):
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            pairs.append((name.replace("_", "-"), value if equals else "" if following.startswith("--") else following))
    return pairs


def asked(arguments: list[str], flag: str) -> str | None:
    """The value that counts for FLAG, or None where it is not given. argparse takes any abbreviation that is not ambiguous."""
    values = [value for name, value in expand(arguments) if stands_for(name, flag)]
    return values[-1] if values else None


def stands_for(name: str, flag: str) -> bool:
    return len(name) > len("--") and flag.startswith(name)


def _from_file(path: str) -> list[str]:
    """A file that cannot be read says nothing here: vLLM refuses it in its own words."""
    import yaml  # vLLM's own dependency, and slow to import: only where there is a file

    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.safe_load(file)
    except (OSError, ValueError, yaml.YAMLError):
        return []
    words = []
    for key, value in content.items() if isinstance(content, dict) else ():
        if value is False or value == []:
            continue
        values = [] if value is True else value if isinstance(value, list) else [json.dumps(value)] if isinstance(value, dict) else [value]
        words += [f"--{key}", *map(str, values)]
    return words
