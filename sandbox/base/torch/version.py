__version__ = "2.11.0a0+standin.nv26.03"
cuda = "13.2"
git_version = "stand-in"
