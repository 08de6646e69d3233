__stand_in__ = "stand-in triton_kernels of the sandbox"
