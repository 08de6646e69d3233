import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { checkout, type Ended, type Places } from "./armRoot";
import { NativeRoot } from "./nativeRoot";

/*
 * The compiler cache of the stages, with this machine's ccache, the base image's nvcc and real PyTorch: what each builder writes as a
 * command is found a second time, and a stage that was stopped goes on from its objects. On this machine's processor.
 */
const HOUR = 3_600_000;
const root = new NativeRoot();
const work = fs.mkdtempSync(path.join(process.env.GH200_UPSTREAM_WORK ?? os.tmpdir(), "gh200-cache-"));
const assets = path.join(checkout, "assets/vllm");
const ldflags = /^ENV LDFLAGS="(.+)"$/m.exec(fs.readFileSync(path.join(assets, "Dockerfile"), "utf8"))![1]!;

beforeAll(() => {
    root.open();
}, HOUR);

afterAll(() => {
    fs.rmSync(work, { recursive: true, force: true });
}, HOUR);

const folder = (name: string): string => {
    const at = path.join(work, name);
    fs.mkdirSync(at, { recursive: true });
    return at;
};
/** `found of all` of the line that run-logged ends with. */
const hits = ({ output }: Ended): string | undefined => /compiler cache: (\d+ of \d+) compiles found/.exec(output)?.[1];

/** Runs a command as a compile step does, with a cache mount of the name. */
function step(cache: string, command: string, places: Places, env: Record<string, string> = {}): Ended {
    return root.run(
        command,
        {
            CCACHE_DIR: "/var/cache/gh200/ccache",
            LDFLAGS: ldflags,
            CUDA_ARCH_LIST: "9.0a",
            MAX_JOBS: "2",
            NVCC_THREADS: "1",
            SOURCE_DATE_EPOCH: "1775088000",
            ...env,
        },
        { "/var/cache/gh200": folder(cache), "/build": path.join(assets, "build/common"), ...places },
    );
}

const arch = "-gencode=arch=compute_90a,code=sm_90a";
test.each([
    ["FlashInfer writes it", `/build/nvcc --generate-dependencies-with-compile --dependency-output one.o.d ${arch} --threads=1 -c one.cu -o one.o`],
    ["FlashAttention writes it", `/build/nvcc --generate-dependencies-with-compile --dependency-output one.o.d ${arch} --threads 1 -c one.cu -o one.o`],
    ["PyTorch writes it", `/build/nvcc -MD -MF one.o.d --expt-relaxed-constexpr --compiler-options "'-fPIC'" ${arch} -c one.cu -o one.o`],
    ["CMake writes it", `ccache /usr/local/cuda/bin/nvcc -ccbin g++ --options-file one.rsp ${arch} -MD -MT one.o -MF one.o.d -x cu -c one.cu -o one.o`],
    [
        "CMake writes it, for two kinds of code",
        `ccache /usr/local/cuda/bin/nvcc "--generate-code=arch=compute_80,code=[compute_80,sm_80]" -MD -MT one.o -MF one.o.d -x cu -c one.cu -o one.o`,
    ],
])(
    "a compile as %s is found again, with its list of headers, and not when a header has changed",
    (builder, command) => {
        const source = folder(`source of ${builder}`.replaceAll(" ", "-"));
        const header = path.join(source, "one.cuh");
        fs.writeFileSync(
            path.join(source, "one.cu"),
            '#include "one.cuh"\n__global__ void one(int *value) { *value = SCALE; }\nvoid run(int *value) { one<<<1, 1>>>(value); }\n',
        );
        fs.writeFileSync(path.join(source, "one.rsp"), "-I.");
        fs.writeFileSync(path.join(source, "compile"), command);
        fs.writeFileSync(header, "#define SCALE 1\n");
        const compile = (): string | undefined => {
            ["one.o", "one.o.d"].forEach((file) => fs.rmSync(path.join(source, file), { force: true }));
            const ended = step(`cache-of-${builder}`.replaceAll(/[ ,]/g, "-"), "cd /source && /build/run-logged one bash compile", { "/source": source });
            expect(ended.status, ended.output).toBe(0);
            expect(fs.readFileSync(path.join(source, "one.o.d"), "utf8")).toContain("one.cuh");
            return hits(ended);
        };
        expect(compile()).toBe("0 of 1");
        const first = fs.readFileSync(path.join(source, "one.o"));
        expect(compile()).toBe("1 of 1");
        expect(fs.readFileSync(path.join(source, "one.o")).equals(first)).toBe(true);
        fs.writeFileSync(header, "#define SCALE 2\n");
        expect(compile()).toBe("0 of 1");
    },
    HOUR,
);

test(
    "an extension that PyTorch builds, stopped at three quarters, goes on from its objects, and a second run finds them all",
    () => {
        const source = folder("extension");
        const names = [...Array(8).keys()].map((index) => `kernel${index}`);
        for (const name of names) {
            fs.writeFileSync(
                path.join(source, `${name}.cu`),
                `#include <cuda_fp16.h>\n__global__ void ${name}(float *value) { *value = sinf(*value); }\nvoid run_${name}(float *value) { ${name}<<<1, 1>>>(value); }\n`,
            );
        }
        fs.writeFileSync(
            path.join(source, "setup.py"),
            [
                "from setuptools import setup",
                "from torch.utils.cpp_extension import BuildExtension, CUDAExtension",
                `setup(name="kernels", ext_modules=[CUDAExtension("kernels", ${JSON.stringify(names.map((name) => `${name}.cu`))})], cmdclass={"build_ext": BuildExtension})`,
            ].join("\n"),
        );
        const run = (before = "") => {
            fs.rmSync(path.join(source, "build"), { recursive: true, force: true });
            const start = Date.now();
            const ended = step(
                "extension-cache",
                `cd /source; ${before} /build/run-logged extension python3 setup.py --quiet build_ext`,
                { "/source": source },
                { MAX_JOBS: "1", TORCH_CUDA_ARCH_LIST: "9.0a", PYTORCH_NVCC: "/build/nvcc" },
            );
            const seconds = Math.round((Date.now() - start) / 1000);
            console.log(`extension of eight files: ${seconds} s, ${hits(ended) ?? "stopped"}`);
            return { ended, seconds };
        };
        // As a builder that is switched off stops it: everything at once, as soon as the sixth object is there.
        const stopped = run("( until [ $(find /source/build -name '*.o' | wc -l) -ge 6 ]; do sleep 0.2; done 2>/dev/null; kill -KILL -1 ) & ");
        expect(stopped.ended.output).not.toContain("done in");
        const resumed = run();
        expect(resumed.ended.status, resumed.ended.output).toBe(0);
        expect(hits(resumed.ended)).toMatch(/^[567] of 8$/);
        const again = run();
        expect(hits(again.ended)).toBe("8 of 8");
        expect(again.seconds).toBeLessThan(stopped.seconds);
    },
    HOUR,
);
