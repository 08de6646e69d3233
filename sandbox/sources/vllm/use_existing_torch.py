"""STAND-IN for vLLM's script: with --prefix, removes the three torch packages from the requirements."""
import glob
import sys

if "--prefix" not in sys.argv:
    sys.exit("use_existing_torch.py: without --prefix every line with torch in it would go")
for path in glob.glob("requirements/*.txt"):
    lines = open(path).readlines()
    open(path, "w").writelines(line for line in lines if not line.startswith(("torch=", "torchvision=", "torchaudio=")))
