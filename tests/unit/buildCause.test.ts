import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { buildCause } from "../../components/builder/buildCause";
import { temporaryFolders } from "../support/temporaryFolder";

const temporaryFolder = temporaryFolders();
const exited = (status: number) => [`failed to solve: process "/bin/bash -c run-logged build-vllm" did not complete successfully: exit code: ${status}`];
const cause = (log: string, errors: string[] = exited(1), target = "build-vllm") => buildCause({ target, log: log.split("\n").filter(Boolean), errors });
const jobs = "lower stages.maxJobs.build-vllm, or give the builder more memory and say so in stages.builderMemoryGiB";

/** What ninja, setuptools and pip print after any failure of a compiler. */
const after = [
    "ninja: build stopped: subcommand failed.",
    "Traceback (most recent call last):",
    '  File "setup.py", line 300, in build_extensions',
    "subprocess.CalledProcessError: Command '['cmake', '--build', '.', '-j=4']' returned non-zero exit status 1.",
    "error: subprocess-exited-with-error",
    "× Building wheel for vllm (pyproject.toml) did not run successfully.",
    "│ exit code: 1",
    "ERROR: Failed building wheel for vllm",
    "ERROR: Failed to build installable wheels for some pyproject.toml based projects (vllm)",
].join("\n");

describe("the headline of a failed build is its true cause", () => {
    test.each<[string, string, string]>([
        // microsoft/onnxruntime#18579
        [
            "a compiler that was killed",
            "nvcc error   : 'cicc' died due to signal 9 (Kill signal)",
            `a compiler was killed for want of memory: nvcc error : 'cicc' died due to signal 9 (Kill signal); ${jobs}`,
        ],
        // Anbeeld/beellama.cpp#80
        [
            "GCC's word for it",
            "c++: fatal error: Killed signal terminated program cc1plus\ncompilation terminated.",
            `a compiler was killed for want of memory: c++: fatal error: Killed signal terminated program cc1plus; ${jobs}`,
        ],
        [
            "a shell's word for it",
            "/bin/bash: line 1:  4242 Killed                  nvcc -c a.cu",
            `a compiler was killed for want of memory: /bin/bash: line 1: 4242 Killed nvcc -c a.cu; ${jobs}`,
        ],
        ["ninja's", "FAILED: a.cu.o\nKilled", `a compiler was killed for want of memory: Killed; ${jobs}`],
        [
            "a compiler that crashed",
            "nvcc error   : 'ptxas' died due to signal 11 (Invalid memory reference)",
            `a compiler crashed, often for want of memory: nvcc error : 'ptxas' died due to signal 11 (Invalid memory reference); ${jobs}`,
        ],
        [
            "a full disk",
            "fatal error: error writing to /tmp/cc.s: No space left on device",
            "the builder's disk is full: fatal error: error writing to /tmp/cc.s: No space left on device; free it there (buildctl prune, or buildkitd's gc settings), or give it more",
        ],
        [
            "CMake",
            "-- The CXX compiler identification is GNU 13\nCMake Error at cmake/utils.cmake:34 (message):\n  Failed to locate python path: /usr/bin/python3.\nCall Stack (most recent call first):\n  CMakeLists.txt:50 (run_python)",
            "CMake Error at cmake/utils.cmake:34 (message): Failed to locate python path: /usr/bin/python3.",
        ],
        [
            "a header that is missing",
            "csrc/a.cpp:3:10: fatal error: infiniband/verbs.h: No such file or directory\ncompilation terminated.",
            "csrc/a.cpp:3:10: fatal error: infiniband/verbs.h: No such file or directory; a header is missing in the base image or the source",
        ],
        [
            "a linker",
            "/usr/bin/ld: cannot find -libverbs: No such file or directory\ncollect2: error: ld returned 1 exit status",
            "/usr/bin/ld: cannot find -libverbs: No such file or directory",
        ],
        ["nvcc", 'a.cu(3): error: expected a ";"', 'a.cu(3): error: expected a ";"'],
        ["nvcc's own arguments", "nvcc fatal   : Unsupported gpu architecture 'compute_90x'", "nvcc fatal : Unsupported gpu architecture 'compute_90x'"],
        [
            "pip's resolver",
            "ERROR: Cannot install a==1 and b==2 because these package versions have conflicting dependencies.\nERROR: ResolutionImpossible: for help visit https://pip.pypa.io",
            "ERROR: Cannot install a==1 and b==2 because these package versions have conflicting dependencies.; correct the lock, or what the package index offers",
        ],
        [
            "a package that is not there",
            "ERROR: Could not find a version that satisfies the requirement nosuch==1 (from versions: none)",
            "ERROR: Could not find a version that satisfies the requirement nosuch==1 (from versions: none); correct the lock, or what the package index offers",
        ],
        [
            "our own refusal",
            "base image, nvcc: 12.9: not what this image is built for; accepted: 13.2.*",
            "base image, nvcc: 12.9: not what this image is built for; accepted: 13.2.*",
        ],
        ["git", "fatal: couldn't find remote ref refs/heads/nosuch", "fatal: couldn't find remote ref refs/heads/nosuch"],
    ])("of %s", (_, log, line) => {
        expect(cause(`-- Configuring done\n[1/9] Building CXX object\n${log}\n${after}`)).toBe(line);
    });

    test("where the kill stands above other compilers' errors, and under run-logged's prefix", () => {
        expect(cause(`a.cu(3): error: expected\n${after}\n[build-vllm] first error: nvcc error   : 'cicc' died due to signal 9 (Kill signal)`)).toMatch(
            /^a compiler was killed/,
        );
    });

    test("also where nothing but the status is left", () => {
        expect(cause("compiling", exited(137))).toBe(`the step was killed (exit status 137), mostly for want of memory; ${jobs}`);
        expect(cause("[build-vllm] failed after 06:00:00 with status 124; the last lines of 9:", exited(124))).toMatch(/^the step took longer than six hours/);
        expect(cause("", [])).toBe("no reason given");
    });

    test("and names the stage only where there is one to set", () => {
        for (const target of ["final", "build-managed-alloc"]) {
            expect(cause("Killed", exited(1), target)).toMatch(/; give the builder more memory and say so in stages\.builderMemoryGiB$/);
        }
    });
});

describe("a registry or a host that is not reached", () => {
    const digest = `sha256:403${"a".repeat(61)}`;
    test.each<[string, RegExp]>([
        [
            `failed to solve: failed to push r.example/x: failed to do request: Head "https://r.example/v2/x/blobs/${digest}": tls: failed to verify certificate: x509: certificate signed by unknown authority`,
            /^r\.example: its certificate is signed by an authority that is not trusted \(tls: failed.*\); give the builder its authority/,
        ],
        [
            `failed to solve: r.example/x@${digest}: failed to resolve source metadata for r.example/x@${digest}: failed to do request: Head "https://r.example/v2/x/manifests/${digest}": dial tcp: lookup r.example on 10.0.0.2:53: no such host`,
            /^r\.example: its name has no address/,
        ],
        [
            `failed to solve: failed to push r.example/x@${digest}: unexpected status from PUT request to https://r.example/v2/x/blobs/uploads/1: 502 Bad Gateway`,
            /^r\.example: it answers 502 Bad Gateway/,
        ],
        [
            `failed to solve: failed to push r.example/x: unexpected status from POST request to https://r.example/v2/x/blobs/uploads/: 401 Unauthorized`,
            /^r\.example: it refuses the credentials \(unexpected status.*401 Unauthorized\); set registry\.username/,
        ],
        ["failed to solve: failed to compute cache key: failed to copy: write /var/lib/buildkit/x: no space left on device", /^the builder's disk is full/],
        [
            "failed to solve: failed to read dockerfile: failed to load cache key: git fetch: exit status 128: fatal: unable to access 'https://git.example/a.git/': Could not resolve host: git.example",
            /^git\.example: its name has no address/,
        ],
    ])("%s", (error, line) => {
        expect(cause("", [error])).toMatch(line);
    });

    test("is no matter of credentials for a digest with 403 in it", () => {
        const corrupt = `failed to solve: failed to extract layer ${digest}: mount callback failed: archive/tar: invalid tar header`;
        expect(cause("", [corrupt])).toBe(corrupt);
    });
});

test("is one line of bounded length, whatever was printed", () => {
    fc.assert(
        fc.property(fc.array(fc.string({ maxLength: 2000 })), fc.array(fc.string()), (log, errors) => {
            const line = buildCause({ target: "build-vllm", log, errors });
            expect(line.includes("\n")).toBe(false);
            expect(line.length).toBeLessThan(700);
        }),
    );
});

describe("run-logged finds it in a log whose end does not hold it", () => {
    const script = fs.readFileSync(path.resolve(__dirname, "../../assets/vllm/build/common/run-logged"), "utf8");
    const filler = 'for i in $(seq 200); do echo "In function f, note $i"; done';
    test.each([
        ["nvcc error   : 'cicc' died due to signal 9 (Kill signal)", /^a compiler was killed for want of memory: nvcc/],
        ["a.cu(3): error: expected\nc++: fatal error: Killed signal terminated program cc1plus", /^a compiler was killed for want of memory: c\+\+/],
        ["cp: error writing 'x': No space left on device", /^the builder's disk is full/],
        ["CMake Error at CMakeLists.txt:5 (message):\n  No CUDA found\n\n-- done", /^CMake Error at CMakeLists\.txt:5 \(message\): No CUDA found/],
        ["a.cu(3): error: expected", /^a\.cu\(3\): error: expected$/],
        ["fatal: unable to access 'https://git.example/': Could not resolve host: git.example", /^git\.example: its name has no address/],
    ])("%j", (text, line) => {
        const folder = temporaryFolder();
        const file = path.join(folder, "run-logged");
        // The builder's cache mount is not here, and nobody waits for its next line.
        fs.writeFileSync(file, script.replace("/var/cache/gh200/logs", folder).replace("sleep 30", "sleep 0.1"));
        const { stdout, status } = spawnSync(
            "bash",
            [file, "build-vllm", "bash", "-c", `printf '%s\\n' ${JSON.stringify(text).replace(/\\n/g, "' '").replace(/^"|"$/g, "'")}; ${filler}; exit 1`],
            { encoding: "utf8" },
        );
        expect(status).toBe(1);
        expect(cause(stdout)).toMatch(line);
    });
});
