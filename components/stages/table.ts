/** What one stage of assets/vllm/Dockerfile is and costs. */
export interface StageFacts {
    /** Target of the Dockerfile, named as in the source document. */
    target: string;
    /** What the stage delivers, as a person would say it. */
    delivers: string;
    /** Whether anything is compiled; a stage that is not says in `exception` why rule 2 allows it. */
    compiled: boolean;
    /** Why a stage that compiles nothing, or can be left out, may do so. */
    exception?: string;
    /** What is lost without it; present only on stages that can be left out. */
    lostWithout?: string;
    /** Peak resident memory of one compile job, GiB. */
    memoryPerJobGiB: number;
    /** Expected minutes on 72 Grace cores with the default jobs. Estimates, none measured on a GH200. */
    estimatedMinutes: number;
}

/**
 * The seven stages in the order they are built. Memory per job: FlashAttention's from compiles with
 * nvcc 13.2.51 on x86 (2026-11-24), FlashInfer's and LMCache's are upstream's own figures, vLLM's is
 * FlashAttention's since it compiles the same FA3 kernels; minutes are estimates from file counts.
 */
export const stageTable: readonly StageFacts[] = [
    {
        target: "build-triton",
        delivers: "Triton 3.6.0",
        compiled: false,
        exception: "the source document takes the PyPI aarch64 wheel; even Triton's own source build downloads a prebuilt LLVM",
        memoryPerJobGiB: 0,
        estimatedMinutes: 1,
    },
    {
        target: "build-triton-kernels",
        delivers: "triton_kernels of Triton v3.6.0",
        compiled: false,
        exception: "pure Python, there is nothing to compile",
        memoryPerJobGiB: 0,
        estimatedMinutes: 1,
    },
    { target: "build-flashinfer", delivers: "FlashInfer v0.6.6 with its kernels ahead of time", compiled: true, memoryPerJobGiB: 8, estimatedMinutes: 65 },
    { target: "build-lmcache", delivers: "LMCache v0.4.4", compiled: true, memoryPerJobGiB: 3, estimatedMinutes: 4 },
    {
        target: "build-flash-attention",
        delivers: "FlashAttention 3 (hopper)",
        compiled: true,
        lostWithout: "flash_attn_interface for programs other than vLLM, which brings FA3 kernels of its own",
        memoryPerJobGiB: 6.9,
        estimatedMinutes: 35,
    },
    { target: "build-vllm", delivers: "vLLM, branch cmm", compiled: true, memoryPerJobGiB: 6.9, estimatedMinutes: 60 },
    {
        target: "build-infinistore",
        delivers: "InfiniStore",
        compiled: true,
        lostWithout: "LMCache's infinistore:// backend",
        memoryPerJobGiB: 1,
        estimatedMinutes: 2,
    },
];

/**
 * Compile jobs that fit the builder: its memory less 8 GiB for the system and BuildKit, divided by
 * what one job holds, and never more than its cores.
 */
export function maxJobs(stage: StageFacts, builderMemoryGiB: number, builderCores: number): number {
    const systemGiB = 8;
    const fitting = stage.memoryPerJobGiB === 0 ? builderCores : Math.floor((builderMemoryGiB - systemGiB) / stage.memoryPerJobGiB);
    return Math.max(1, Math.min(builderCores, fitting));
}
