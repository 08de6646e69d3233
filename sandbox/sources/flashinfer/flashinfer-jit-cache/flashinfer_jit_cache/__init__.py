__version__ = "0.6.6+stand.in"
__stand_in__ = "stand-in FlashInfer kernels of the sandbox"
