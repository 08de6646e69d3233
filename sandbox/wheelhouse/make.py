#!/usr/bin/env python3
"""make.py [--check]: the stand-in packages of the sandbox's package index, as wheels, and the hash-locked requirements that
name them. Stored, not compressed, with one date: the same bytes on every machine, so they stand in the repository."""
import base64
import hashlib
import io
import pathlib
import sys
import zipfile

HERE = pathlib.Path(__file__).parent

# Lock file: the packages that it names. The lock files are those of assets/vllm/locks and assets/lmcache/locks.
LOCKS = {
    "build.txt": ["stand-in-build-dependency"],
    "flashinfer.txt": ["stand-in-tvm-ffi"],
    "triton.txt": ["triton"],
    "runtime.txt": ["stand-in-runtime-dependency", "numpy"],
    "lmcache.txt": ["stand-in-runtime-dependency", "numpy"],
}
VERSIONS = {"triton": "3.6.0+stand.in", "numpy": "2.2.6+stand.in"}
SCRIPTS = {
    "stand-in-build-dependency": {
        "auditwheel": """#!/bin/sh
# STAND-IN for `auditwheel repair OPTIONS --wheel-dir FOLDER WHEEL`: copies the wheel.
while [ $# -gt 1 ]; do
  [ "$1" != --wheel-dir ] || folder=$2
  shift
done
mkdir -p "$folder"
exec cp "$1" "$folder/"
"""
    }
}


def wheel(name: str, version: str) -> tuple[str, bytes]:
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}/__init__.py": f'"""STAND-IN package of the sandbox."""\n__version__ = "{version}"\n__stand_in__ = "stand-in {name} of the sandbox"\n',
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: stand-in package of the sandbox\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: stand-in\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files |= {f"{module}-{version}.data/scripts/{script}": text for script, text in SCRIPTS.get(name, {}).items()}
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text.encode())}\n"
        for path, text in files.items()
    )
    files[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for path, text in files.items():
            entry = zipfile.ZipInfo(path, (2026, 4, 2, 0, 0, 0))
            entry.external_attr = (0o100755 if "/scripts/" in path else 0o100644) << 16
            entry.create_system = 3
            archive.writestr(entry, text)
    return f"{module}-{version}-py3-none-any.whl", out.getvalue()


def main() -> None:
    made: dict[pathlib.Path, bytes] = {HERE / "wheels" / "pip.conf": b"[global]\nno-index = true\nfind-links = /wheelhouse\n"}
    for lock, names in LOCKS.items():
        lines = []
        for name in names:
            version = VERSIONS.get(name, "1.0")
            file, data = wheel(name, version)
            made[HERE / "wheels" / file] = data
            lines.append(f"{name}=={version} --hash=sha256:{hashlib.sha256(data).hexdigest()}\n")
        made[HERE / "locks" / lock] = "".join(lines).encode()
    if "--check" in sys.argv:
        differing = [str(path) for path, data in made.items() if not path.exists() or path.read_bytes() != data]
        if differing:
            sys.exit(f"{', '.join(differing)}: not what make.py makes; run {__file__}")
        return
    for path, data in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


main()
