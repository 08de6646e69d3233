"""sample FOLDER NINJAS PATTERN COUNT: compiles COUNT of a build's CUDA objects whose names match, the same ones at every run, one at a
time, without ccache; a line of JSON for each, with processor seconds and the memory of its largest process."""
import fnmatch
import glob
import json
import os
import random
import subprocess
import sys
import time

folder, ninjas, pattern, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
os.chdir(folder)
listings = [subprocess.run(["ninja", "-f", file, "-t", "compdb"], capture_output=True, text=True, check=True).stdout for file in sorted(glob.glob(ninjas))]
commands = {entry["output"]: entry["command"] for listing in listings for entry in json.loads(listing) if entry["file"].endswith(".cu") and entry["output"].endswith(".o")}
wanted = sorted(fnmatch.filter(commands, pattern))
random.Random(2026).shuffle(wanted)
print(json.dumps({"cuda": len(commands), "matching": len(wanted)}), flush=True)
for name in wanted[:count]:
    command = commands[name].replace("ccache ", "").replace(name, "/tmp/sample.o")
    start = time.monotonic()
    process = subprocess.Popen(["bash", "-c", command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    took = {"file": name, "seconds": round(time.monotonic() - start, 1), "cpuSeconds": round(usage.ru_utime + usage.ru_stime, 1), "peakMiB": usage.ru_maxrss // 1024}
    print(json.dumps(took), flush=True)
    if status != 0:
        sys.exit(errors[-2000:])
