__stand_in__ = "stand-in InfiniStore of the sandbox"
