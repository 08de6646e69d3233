import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { defaultSources } from "../../components/stages/sources";
import { ArmRoot, checkout, type Ended, type Places } from "./armRoot";
import { named, type Recorded, readRecord, report } from "./record";
import { checkedOut, sdist } from "./sources";

/*
 * The Dockerfile's recipes, unchanged, on real upstream sources and the real PyTorch, in an arm64 root: patches, configure step and
 * code generation in full, and of the compile the objects that each test names. One compiler at a time, so that what it needs can
 * be measured. A source that cannot be had is reported as skipped, with its repository.
 */
const HOUR = 3_600_000;
const root = new ArmRoot();
const work = fs.mkdtempSync(path.join(process.env.GH200_UPSTREAM_WORK ?? os.tmpdir(), "gh200-upstream-"));
const assets = path.join(checkout, "assets", "vllm");
const results: Recorded[] = [];
/** As the Dockerfile's toolchain has it. */
const ldflags = /^ENV LDFLAGS="(.+)"$/m.exec(fs.readFileSync(path.join(assets, "Dockerfile"), "utf8"))![1]!;
/** The files that hold the most memory take a quarter of an hour each under emulation. */
const large = process.env.GH200_UPSTREAM_LARGE !== undefined;

beforeAll(() => {
    root.open();
    const requirements = { "/build": path.join(assets, "build/common"), "/locks": path.join(assets, "locks") };
    for (const lock of ["build", "flashinfer"]) {
        const mark = path.join(root.folder, "etc", `upstream-${lock}`);
        const text = fs.readFileSync(path.join(assets, "locks", `${lock}.txt`), "utf8");
        if (!fs.existsSync(mark) || fs.readFileSync(mark, "utf8") !== text) {
            succeeded(root.run(`/build/pip-install /locks/${lock}.txt`, {}, requirements));
            fs.writeFileSync(mark, text);
        }
    }
    // The NGC image has what PyTorch itself imports, and NumPy; the lock of the running image names them.
    const imports = "filelock fsspec jinja2 numpy typing-extensions";
    const versions = "sed -n 's/^\\([a-z0-9._-]*==[^ ]*\\).*/\\1/p' /locks/runtime.txt >/tmp/versions";
    succeeded(
        root.run(
            `python3 -c "import filelock, fsspec, jinja2, numpy" || { ${versions} && python3 -m pip install --quiet --root-user-action ignore --only-binary :all: --constraint /tmp/versions ${imports}; }`,
            {},
            requirements,
        ),
    );
}, HOUR);

afterAll(() => {
    root.close();
    if (process.env.GH200_UPSTREAM_KEEP === undefined) {
        fs.rmSync(work, { recursive: true, force: true });
    }
    report(results);
});

/** Runs a stage's recipe as the Dockerfile does; with `objects`, only these are compiled. */
function stage(name: string, sources: Places, objects: string[], env: Record<string, string> = {}): { ended: Ended; record: Recorded; log: string } {
    const out = fs.mkdtempSync(path.join(work, `${name}-`));
    const patches = path.join(assets, "patches", name);
    const revisions = Object.keys(defaultSources).map((source): [string, string] => [
        `${source.replaceAll("-", "_").toUpperCase()}_REVISION`,
        defaultSources[source]!.commit ?? defaultSources[source]!.ref,
    ]);
    fs.mkdirSync(path.join(root.folder, "etc/gh200"), { recursive: true });
    fs.writeFileSync(path.join(root.folder, "etc/gh200/base.json"), '{"torch":"2.11.0","nvcc":"13.2.51","standIn":false}\n');
    const ended = root.run(
        `/build/run-logged build-${name} /recipe`,
        {
            CUDA_ARCH_LIST: "9.0a",
            MAX_JOBS: "1",
            NVCC_THREADS: "1",
            SOURCE_DATE_EPOCH: "1775088000",
            BASE_DIGEST: "none",
            VLLM_RELEASE: "0.19.0",
            LMCACHE_RELEASE: "0.4.4",
            INFINISTORE_RELEASE: "0.2.33.9",
            TRITON_ORIGIN: "wheel",
            ...(Object.fromEntries(revisions) as Record<string, string>),
            UPSTREAM_OBJECTS: objects.join(" "),
            UPSTREAM_RECORD: "/out/record",
            // Empty at first, as on a new builder: what is measured is a compile.
            CCACHE_DIR: "/var/cache/gh200/ccache",
            LDFLAGS: ldflags,
            ...env,
        },
        {
            "/build": path.join(assets, "build/common"),
            "/recipe": path.join(assets, "build/stages", name),
            "/locks": path.join(assets, "locks"),
            "/requires": path.join(assets, "build/requires"),
            "/var/cache/gh200": out,
            "/out": out,
            ...(fs.existsSync(patches) && { "/patches": patches }),
            ...Object.fromEntries(Object.entries(sources).map(([source, folder]) => [`/src/${source}`, folder])),
        },
    );
    const log = fs.readFileSync(path.join(out, "logs", `build-${name}.log`), "utf8");
    fs.mkdirSync(path.join(checkout, ".gh200/upstream"), { recursive: true });
    fs.writeFileSync(path.join(checkout, ".gh200/upstream", `build-${name}.log`), log);
    const record = readRecord(name, path.join(out, "record"));
    results.push(record);
    return { ended, record, log };
}

const tree = (name: string): string => path.join(work, "sources", name);

/** Every pattern matched an object, which the compiler made, for aarch64, with code for sm_90a. */
function compiled({ ended, record, log }: ReturnType<typeof stage>, patterns: string[]): void {
    expect(log, ended.output).toContain("stopped here on purpose");
    expect(
        record.compiled.map(({ status }) => status),
        log.slice(-4000),
    ).toEqual(patterns.map(() => 0));
    for (const { file } of record.compiled) {
        const { output } = root.run(
            `readelf -h '${file}'; cuobjdump --list-elf '${file}'`,
            {},
            Object.fromEntries(fs.readdirSync(tree("")).map((name) => [`/src/${name}`, tree(name)])),
        );
        expect(output, file).toMatch(/Machine:\s+AArch64/);
        expect(output, file).toContain(".sm_90a.");
    }
}

function succeeded(ended: Ended): string {
    expect(ended.status, ended.output.slice(-4000)).toBe(0);
    return ended.output;
}

test(
    "PyTorch of the root is the real one, for aarch64 and CUDA 13",
    () => {
        expect(succeeded(root.run("python3 -c 'import torch, platform; print(torch.__version__, torch.version.cuda, platform.machine())'"))).toMatch(
            /^2\.11\.0(\+cu130)? 13\.0 aarch64$/m,
        );
    },
    HOUR,
);

test(
    "what PyTorch's own builder of extensions links is the same twice, and would not be with the compiler's local symbols",
    () => {
        const folder = fs.mkdtempSync(path.join(work, "extension-"));
        fs.writeFileSync(
            path.join(folder, "one.cu"),
            "static __global__ void one(int *value) { *value = 1; }\nvoid run(int *value) { one<<<1, 1>>>(value); }\n",
        );
        fs.writeFileSync(
            path.join(folder, "setup.py"),
            [
                "from setuptools import setup",
                "from torch.utils.cpp_extension import BuildExtension, CUDAExtension",
                'setup(name="one", ext_modules=[CUDAExtension("one", ["one.cu"])], cmdclass={"build_ext": BuildExtension})',
            ].join("\n"),
        );
        const digests = (flags: string): string[] => {
            const build = (number: number) => `python3 setup.py --quiet build_ext --build-temp temp${number} --build-lib lib${number} >log 2>&1`;
            const output = succeeded(
                root.run(
                    `cd /out && rm -rf temp* lib* && ${build(1)} && ${build(2)} && sha256sum lib*/*.so`,
                    { TORCH_CUDA_ARCH_LIST: "9.0a", MAX_JOBS: "1", LDFLAGS: flags },
                    { "/out": folder },
                ),
            );
            return [...output.matchAll(/^([0-9a-f]{64}) /gm)].map(([, digest]) => digest!);
        };
        const [first, second] = digests(`-Xlinker --build-id ${ldflags}`);
        expect(second).toBe(first);
        expect(first).toBeDefined();
        const [named, again] = digests("-Xlinker --build-id");
        expect(again).not.toBe(named);
    },
    HOUR,
);

test(
    "LMCache 0.4.4: its patch fits, and a kernel compiles",
    () => {
        sdist("src-lmcache", tree("src-lmcache"));
        const objects = ["*/mem_kernels.o"];
        compiled(stage("lmcache", { "src-lmcache": tree("src-lmcache") }, objects), objects);
    },
    HOUR,
);

test(
    "FlashInfer 0.6.6: its package builds, every kernel's source is generated, and one of them compiles",
    () => {
        sdist("src-flashinfer", tree("src-flashinfer"));
        fs.cpSync(path.join(__dirname, "root/flashinfer-jit-cache"), path.join(tree("src-flashinfer"), "flashinfer-jit-cache"), { recursive: true });
        const objects = ["*/batch_decode_kernel.cuda.o", ...(large ? ["*batch_prefill_with_kv_cache*sm90*/*paged_sm90_kernel_mask_1.cuda.o"] : [])];
        const built = stage("flashinfer", { "src-flashinfer": tree("src-flashinfer") }, objects);
        compiled(built, objects);
        expect(built.record.objects).toBeGreaterThan(700);
        const modules = path.join(tree("src-flashinfer"), "build/aot/cached_ops");
        const files = fs
            .readdirSync(modules)
            .map((name) => path.join(modules, name, "build.ninja"))
            .filter((file) => fs.existsSync(file));
        expect(
            files.filter(
                (file) =>
                    !fs
                        .readFileSync(file, "utf8")
                        .replace(/ \$\n +/g, " ")
                        .includes(ldflags),
            ),
        ).toEqual([]);
        expect(files.length).toBeGreaterThan(700);
    },
    2 * HOUR,
);

test(
    "vLLM 0.19.0: its three patches fit, CMake configures for sm_90a, and a kernel compiles",
    () => {
        sdist("src-vllm", tree("src-vllm"));
        if (!checkedOut("src-cutlass", tree("src-cutlass"))) {
            cutlassOfFlashInfer(tree("src-cutlass"));
        }
        const attention = checkedOut("src-vllm-flash-attn", tree("src-vllm-flash-attn"), ["csrc/cutlass"]);
        named(tree("src-vllm"), "flashmla", tree("src-flashmla"));
        named(tree("src-vllm"), "qutlass", tree("src-qutlass"));
        if (!attention) {
            fs.mkdirSync(tree("src-vllm-flash-attn"), { recursive: true });
            fs.writeFileSync(path.join(tree("src-vllm-flash-attn"), "CMakeLists.txt"), "");
        }
        fs.mkdirSync(path.join(tree("src-triton"), "python/triton_kernels/triton_kernels"), { recursive: true });
        fs.writeFileSync(path.join(tree("src-triton"), "python/triton_kernels/triton_kernels/__init__.py"), "");
        const largest = ["*/cache_kernels.cu.o", "*/scaled_mm_sm90_fp8.cu.o", ...(attention ? ["*/flash_fwd_hdim128_bf16_split_sm90.cu.o"] : [])];
        const objects = ["*/permute_cols.cu.o", ...(large ? largest : [])];
        const sources = Object.fromEntries(
            ["src-vllm", "src-cutlass", "src-vllm-flash-attn", "src-flashmla", "src-qutlass", "src-triton"].map((name) => [name, tree(name)]),
        );
        compiled(stage("vllm", sources, objects), objects);
        const built = path.join(tree("src-vllm"), "build");
        const folder = fs.readdirSync(built).find((name) => name.startsWith("temp."))!;
        const links = fs
            .readFileSync(path.join(built, folder, "build.ninja"), "utf8")
            .split(/^build /m)
            .filter((rule) => /^\S+\.so: \w+_LINKER_/.test(rule));
        expect(links.map((rule) => /^ {2}LINK_FLAGS = (.*)$/m.exec(rule)?.[1])).toEqual(links.map(() => expect.stringContaining(ldflags) as string));
        expect(links.length).toBeGreaterThan(3);
    },
    3 * HOUR,
);

/** CUTLASS at the same commit, from FlashInfer's distribution, which lacks the CMakeLists.txt that names these folders to vLLM. */
function cutlassOfFlashInfer(folder: string): void {
    const whole = tree("src-flashinfer-for-cutlass");
    sdist("src-flashinfer", whole);
    fs.renameSync(path.join(whole, "3rdparty/cutlass"), folder);
    const folders = { CUTLASS_DIR: "", CUTLASS_INCLUDE_DIR: "/include", CUTLASS_TOOLS_UTIL_INCLUDE_DIR: "/tools/util/include" };
    const lines = Object.entries(folders).map(([name, place]) => `set(${name} "\${CMAKE_CURRENT_SOURCE_DIR}${place}" CACHE PATH "" FORCE)\n`);
    fs.writeFileSync(path.join(folder, "CMakeLists.txt"), lines.join(""));
}

test(
    "InfiniStore: the whole stage, to a wheel that its own checks accept",
    (context) => {
        context.skip(!checkedOut("src-infinistore", tree("src-infinistore")), `${defaultSources["src-infinistore"]!.repository} cannot be reached`);
        const { ended } = stage("infinistore", { "src-infinistore": tree("src-infinistore") }, []);
        expect(succeeded(ended)).toContain("done in");
    },
    2 * HOUR,
);

test(
    "FlashAttention 3: 222 CUDA files for Hopper, and one of them compiles",
    () => {
        if (!checkedOut("src-flash-attn-cutlass", tree("src-flash-attn-cutlass")) || !checkedOut("src-flash-attention", tree("src-flash-attention"))) {
            flashAttentionOfXformers(tree("src-flash-attention"), tree("src-flash-attn-cutlass"));
        }
        const objects = ["*/flash_prepare_scheduler.o", ...(large ? ["*/flash_fwd_combine.o", "*/flash_fwd_hdim128_bf16_split_sm90.o"] : [])];
        const built = stage(
            "flash-attention",
            { "src-flash-attention": tree("src-flash-attention"), "src-flash-attn-cutlass": tree("src-flash-attn-cutlass") },
            objects,
        );
        compiled(built, objects);
        expect(built.record.cuda).toBe(222);
    },
    2 * HOUR,
);

/**
 * xFormers' distribution carries FlashAttention, whose own has no CUDA file of hopper/: byte for byte the folder that its repository
 * had from 2025-10-24 to 2025-12-02 (26ba559e), older than the pin.
 */
function flashAttentionOfXformers(folder: string, cutlass: string): void {
    sdist("src-flash-attention", tree("xformers"));
    fs.rmSync(cutlass, { recursive: true, force: true });
    fs.renameSync(path.join(tree("xformers"), "third_party/flash-attention"), folder);
    fs.renameSync(path.join(folder, "csrc/cutlass"), cutlass);
    // Read for the package's description, and left out of that distribution.
    fs.writeFileSync(path.join(folder, "README.md"), "");
}
