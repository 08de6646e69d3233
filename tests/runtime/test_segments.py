"""The segment source over the stand-in runtime, under sanitizers; C16 and C17 of the runtime's test list."""

import re
import subprocess

import pytest
from support import ASSETS, HERE, build, library

SOURCES = (str(HERE / "segments_test.cpp"), str(HERE / "fake_cudart.cpp"))


@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_under_sanitizers(sanitizer):
    program = build(f"segments-{sanitizer[0]}", *SOURCES, flags=("-O1", f"-fsanitize={sanitizer}", "-Wno-misleading-indentation"))
    done = subprocess.run([program], capture_output=True, text=True, env={"FAKE_DEVICES": "2"}, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "10 cases" in done.stdout and "Sanitizer" not in done.stderr


@pytest.mark.parametrize("cuda", [12, 13])
def test_compiles_against_the_headers_of(cuda):
    symbols = subprocess.run(["nm", "-D", "--defined-only", library(cuda)], capture_output=True, text=True).stdout
    exported = set(re.findall(r" T (\w+)", symbols))
    assert exported == {"ma_version", "ma_stand_in", "ma_place", "ma_limit", "ma_weights_malloc", "ma_kv_malloc", "ma_free", "ma_redirect", "ma_share", "ma_row", "ma_segment", "ma_count_oom"}


PLANTED = {
    "a failed advice that keeps the budget": ("store(row->hbm, row->hbm - in_hbm), store(row->host, row->host - (size - in_hbm));\n    count(row->failed);", "count(row->failed);"),
    "a failed advice that leaks the memory": ("if (error != cudaSuccess) cudaFree(*out), *out = nullptr;", "if (error != cudaSuccess) *out = nullptr;"),
    "a stale last error": ("if (error != cudaSuccess) cudaGetLastError();", ""),
    "an overflow segment that prefers the device": ("on_host, cudaMemAdviseSetPreferredLocation, host_place()", "on_host, cudaMemAdviseSetPreferredLocation, gpu"),
    "a device that is not restored": ("if (changed_) cudaSetDevice(previous_);", ""),
    "a prefetch on the legacy stream": ("return cudaMemPrefetchAsync(p, n, to, 0, stream);", "return cudaMemPrefetchAsync(p, n, to, 0, nullptr);"),
    "a limit that is checked and taken apart": ("store(row->hbm, row->hbm + in_hbm), store(row->host, row->host + on_host);", ""),
    "a split segment that is prefetched as a whole": ("to_prefetch = literal ? size : in_hbm", "to_prefetch = size"),
    "a cache that is split anew in each segment": ("size * share", "size"),
    "a child of a fork that calls the driver": ("    orphaned = true;\n", ""),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_planted_bug_is_caught(bug, tmp_path):
    before, after = PLANTED[bug]
    source = (ASSETS / "managed_alloc.cu").read_text()
    assert source.count(before) == 1, "the planted bug does not fit the source any more"
    (tmp_path / "managed_alloc.cu").write_text(source.replace(before, after))
    test = (HERE / "segments_test.cpp").read_text().replace('"../../assets/vllm/managed_alloc.cu"', '"managed_alloc.cu"')
    if "legacy" in bug:  # only the managed placements prefetch
        test = test.replace("int main() {", "int main() {\n  ma_place(1);\n  ma_limit(0, 0, 4 * M, 0);\n  if (!ma_weights_malloc(M, 0, nullptr)) return 1;\n  return 0;")
    (tmp_path / "t.cpp").write_text(test)
    program = build(f"planted-{list(PLANTED).index(bug)}", str(tmp_path / "t.cpp"), SOURCES[1], flags=("-O0", "-fsanitize=address", "-Wno-unused", "-Wno-misleading-indentation", "-I", str(tmp_path)))
    assert subprocess.run([program], capture_output=True, env={"FAKE_DEVICES": "2", "ASAN_OPTIONS": "detect_leaks=0"}, timeout=60).returncode != 0
