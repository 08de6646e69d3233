__stand_in__ = "stand-in LMCache of the sandbox"
