"""STAND-IN."""


class OpaqueBase:
    pass
