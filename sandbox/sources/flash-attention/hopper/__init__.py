__stand_in__ = "stand-in FlashAttention 3 of the sandbox"
