"""A vLLM plug-in: register() is called in every process of vLLM before it makes an engine."""


def register() -> None:
    """Here a team registers its own models or quantisations."""
