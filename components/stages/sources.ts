/** Where one source tree of the image comes from. */
export interface SourceFacts {
    /** Git address. */
    repository: string;
    /** Branch or tag that people name; what is built is the commit. */
    ref: string;
    /** Full commit. Absent where it was never resolved: a preview says so and an update refuses. */
    commit?: string;
    /** Whether submodules are part of the source. */
    submodules: boolean;
    /** Commit, full or shortened, that must be in the history of what is built; `npm run pins` proves it. */
    contains?: string;
    /** Why the ref is not the source document's. */
    because?: string;
}

/**
 * Sources by the name of the Dockerfile stage that each one takes the place of. Refs are the source
 * document's and vLLM 0.19.0's own pins (its cmake/external_projects); a commit stands here only
 * where it was resolved from the repository (docs/decisions/0003-pins.md).
 */
export const defaultSources: Readonly<Record<string, SourceFacts>> = {
    "src-triton": { repository: "https://github.com/triton-lang/triton.git", ref: "v3.6.0", submodules: false },
    "src-flashinfer": {
        repository: "https://github.com/flashinfer-ai/flashinfer.git",
        ref: "v0.6.6",
        commit: "70b142b75b46aa56e7f675a8e6ec1a977352c91f",
        submodules: true,
    },
    "src-lmcache": {
        repository: "https://github.com/LMCache/LMCache.git",
        ref: "v0.4.4",
        commit: "6fbec463e3c047fffb4e22c97508f03b057de3bc",
        submodules: false,
        because: "`dev` wants transformers 5.4 since 0.4.5, vLLM 0.19.0 less than 5: v0.4.4 is the last that fits",
    },
    "src-flash-attention": {
        repository: "https://github.com/Dao-AILab/flash-attention.git",
        ref: "main",
        commit: "c46b8144f2d5039d3d3de05da1b668325130bb35",
        submodules: false,
    },
    "src-flash-attn-cutlass": {
        repository: "https://github.com/NVIDIA/cutlass.git",
        ref: "7127592069c2fe01b041e174ba4345ef9b279671",
        commit: "7127592069c2fe01b041e174ba4345ef9b279671",
        submodules: false,
    },
    "src-cutlass": {
        repository: "https://github.com/NVIDIA/cutlass.git",
        ref: "v4.2.1",
        commit: "f3fde58372d33e9a5650ba7b80fc48b3b49d40c8",
        submodules: false,
    },
    "src-vllm": { repository: "https://sweetapi.com/biondizzle/vllm.git", ref: "cmm", submodules: false, contains: "2a69949bd" },
    "src-vllm-flash-attn": {
        repository: "https://github.com/vllm-project/flash-attention.git",
        ref: "29210221863736a08f71a866459e368ad1ac4a95",
        commit: "29210221863736a08f71a866459e368ad1ac4a95",
        submodules: true,
    },
    "src-flashmla": {
        repository: "https://github.com/vllm-project/FlashMLA.git",
        ref: "692917b1cda61b93ac9ee2d846ec54e75afe87b1",
        commit: "692917b1cda61b93ac9ee2d846ec54e75afe87b1",
        submodules: true,
    },
    "src-qutlass": {
        repository: "https://github.com/IST-DASLab/qutlass.git",
        ref: "830d2c4537c7396e14a02a46fbddd18b5d107c65",
        commit: "830d2c4537c7396e14a02a46fbddd18b5d107c65",
        submodules: false,
    },
    "src-infinistore": {
        repository: "https://github.com/bytedance/InfiniStore.git",
        ref: "main",
        commit: "502490382125803f785c80bf0345e9038df31f88",
        submodules: false,
    },
};

/** BuildKit's address of a source at its commit, or at its ref while it is unpinned. */
export function gitContext(source: SourceFacts): string {
    const submodules = source.submodules ? "" : "?submodules=false";
    return `${source.repository}${submodules}#${source.commit ?? source.ref}`;
}
