/** A figure and how it is known. */
export interface Figure {
    value: number;
    /** Measured by this project, upstream's own figure, or an estimate. */
    basis: "measured" | "upstream" | "estimate";
    /** By what: command, machine and date, or whose figure it is. */
    source: string;
}

/** What a wheel must hold: GPU code for the architecture, machine code, Python alone, or anything. */
export type WheelContent = "gpu" | "machine" | "python" | "any";

/** What one stage of assets/vllm/Dockerfile is and costs. */
export interface StageFacts {
    /** Target of the Dockerfile, named as in the source document. */
    target: string;
    /** What the stage delivers, as a person would say it. */
    delivers: string;
    /** Sources that it reads, by their names in sources.ts. */
    sources: readonly string[];
    /** Hash-locked requirements that it installs, by their names in assets/vllm/locks. */
    locks: readonly string[];
    /** Projects of the wheels that it leaves, and what each must hold. */
    wheels: Readonly<Record<string, WheelContent>>;
    /** Whether anything is compiled; a stage that is not says in `exception` why rule 2 allows it. */
    compiled: boolean;
    /** Why a stage that compiles nothing may do so. */
    exception?: string;
    /** What is lost without it; present only on stages that can be left out. */
    lostWithout?: string;
    /** Peak resident memory of one compile job, GiB. */
    memoryPerJobGiB: Figure;
    /** Threads of one nvcc; with one architecture more than one only takes memory. Absent where nvcc does not run. */
    nvccThreads?: number;
    /** Processor seconds of all that is compiled, on x86-64: a Grace core is taken to need as many. */
    cpuSeconds: Figure;
    /** Files that are compiled, so that no more jobs find work. Absent where they were not counted. */
    files?: number;
    /** Minutes that no job shortens: download, configuration, packaging. An estimate, as is every sum with it. */
    fixedMinutes: number;
}

const estimate = (value: number, source: string): Figure => ({ value, basis: "estimate", source });
const hopperCompiles = "nvcc 13.2.51, six FlashAttention 3 files for sm_90a, x86-64, 2026-11-24: 5.4 to 6.9 GB, 84 to 137 CPU s";
const recorded = "bench/stages/RESULTS.md";
const nothing = estimate(0, "nothing is compiled");

/** The seven stages in the order they are built. */
export const stageTable: readonly StageFacts[] = [
    {
        target: "build-triton",
        delivers: "Triton 3.6.0",
        sources: ["src-triton"],
        locks: ["build", "triton"],
        wheels: { triton: "any" },
        compiled: false,
        exception: "the source document takes the PyPI aarch64 wheel; even Triton's own source build downloads a prebuilt LLVM",
        memoryPerJobGiB: nothing,
        cpuSeconds: nothing,
        fixedMinutes: 1,
    },
    {
        target: "build-triton-kernels",
        delivers: "triton_kernels of Triton v3.6.0",
        sources: ["src-triton"],
        locks: ["build"],
        wheels: { triton_kernels: "python" },
        compiled: false,
        exception: "pure Python, there is nothing to compile",
        memoryPerJobGiB: nothing,
        cpuSeconds: nothing,
        fixedMinutes: 1,
    },
    {
        target: "build-flashinfer",
        delivers: "FlashInfer v0.6.6 with its kernels ahead of time",
        sources: ["src-flashinfer"],
        locks: ["build", "flashinfer"],
        wheels: { flashinfer_python: "python", flashinfer_jit_cache: "gpu" },
        compiled: true,
        memoryPerJobGiB: { value: 8, basis: "upstream", source: "FlashInfer's scripts/build_flashinfer_jit_cache_whl.sh divides free memory by it on aarch64" },
        cpuSeconds: estimate(96_000, `a sample of 25 of 3,701 CUDA files (${recorded})`),
        files: 3701,
        fixedMinutes: 4,
    },
    {
        target: "build-lmcache",
        delivers: "LMCache v0.4.4",
        sources: ["src-lmcache"],
        locks: ["build"],
        wheels: { lmcache: "gpu" },
        compiled: true,
        memoryPerJobGiB: {
            value: 3,
            basis: "upstream",
            source: "LMCache's setup_extensions/build_profiles/cuda.py: 2.7 to 3.0 GiB on CUDA 13; mem_kernels.cu here: 2.6 GiB (tests/upstream, 2026-11-25)",
        },
        nvccThreads: 1,
        cpuSeconds: estimate(534, `six CUDA files at 89 CPU s, as the one that was measured (${recorded})`),
        files: 6,
        fixedMinutes: 2,
    },
    {
        target: "build-flash-attention",
        delivers: "FlashAttention 3 (hopper)",
        sources: ["src-flash-attention", "src-flash-attn-cutlass"],
        locks: ["build"],
        wheels: { flash_attn_3: "gpu" },
        compiled: true,
        lostWithout: "flash_attn_interface for programs other than vLLM, which brings FA3 kernels of its own",
        memoryPerJobGiB: { value: 6.9, basis: "measured", source: hopperCompiles },
        nvccThreads: 1,
        cpuSeconds: estimate(21_534, `222 CUDA files at 97 CPU s, the mean of those six (${recorded})`),
        files: 222,
        fixedMinutes: 7,
    },
    {
        target: "build-vllm",
        delivers: "vLLM, branch cmm",
        sources: ["src-vllm", "src-cutlass", "src-vllm-flash-attn", "src-flashmla", "src-qutlass", "src-triton"],
        locks: ["build"],
        wheels: { vllm: "gpu" },
        compiled: true,
        memoryPerJobGiB: { value: 6.9, basis: "measured", source: `it compiles the same kernels, its own take 3.0 GiB (${recorded}); ${hopperCompiles}` },
        nvccThreads: 1,
        cpuSeconds: estimate(40_600, `a sample of 12 of 366 CUDA files (${recorded})`),
        files: 366,
        fixedMinutes: 7,
    },
    {
        target: "build-infinistore",
        delivers: "InfiniStore",
        sources: ["src-infinistore"],
        locks: ["build"],
        wheels: { infinistore: "machine" },
        compiled: true,
        lostWithout: "LMCache's infinistore:// backend",
        memoryPerJobGiB: estimate(1, "nine C++ files"),
        cpuSeconds: { value: 80, basis: "measured", source: "the whole stage's compiles on x86-64, 2026-11-24" },
        files: 9,
        fixedMinutes: 1,
    },
];

/** What stands beside «everything is built from source», and why. */
export const exceptions: readonly { part: string; choice: string; reason: string }[] = [
    {
        part: "Triton",
        choice: "PyPI's aarch64 wheel by hash (stages.tritonOrigin: wheel); `source` compiles src-triton",
        reason: "the source document's choice; its source build downloads a prebuilt LLVM, so neither is built from source alone",
    },
    {
        part: "apache-tvm-ffi",
        choice: "PyPI's aarch64 wheel by hash, one version for build and run",
        reason: "the source document's choice; FlashInfer's kernels are compiled against its headers",
    },
    {
        part: "flashinfer-cubin",
        choice: "left out, and out of vLLM's requirements by a patch",
        reason: "none of its files is for SM90, its sources are not published, and it takes 1.1 GB",
    },
];
