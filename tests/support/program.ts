import { temporaryFolders, writeTree } from "./temporaryFolder";

/**
 * A Dockerfile with the stages, sources and arguments of assets/vllm/Dockerfile and next to no recipes,
 * so that these tests are about the components and not about what is compiled.
 */
export const vllmDockerfile = `ARG BASE_IMAGE=nvcr.io/nvidia/pytorch:26.03-py3

FROM \${BASE_IMAGE} AS base
ARG SOURCE_DATE_EPOCH
${[
    ["triton", "triton"],
    ["triton-kernels", "triton"],
    ["flashinfer", "flashinfer"],
    ["lmcache", "lmcache"],
    ["flash-attention", "flash-attention"],
    ["vllm", "vllm"],
    ["infinistore", "infinistore"],
]
    .map(
        ([stage, source]) => `
FROM base AS compile-${stage}
ARG COMPILE_DOMAIN
ARG SRC_${source!.replaceAll("-", "_").toUpperCase()}_REVISION
ARG CUDA_ARCH_LIST
ARG MAX_JOBS
COPY --from=wheelhouse / /wheelhouse
COPY --from=src-${source} / /src
RUN make

FROM scratch AS build-${stage}
COPY --from=compile-${stage} /wheels /
`,
    )
    .join("")}
FROM base AS build-managed-alloc
ARG COMPILE_DOMAIN
ARG CUDA_ARCH_LIST
COPY managed_alloc.cu /
RUN nvcc

FROM base AS final
COPY --from=wheelhouse / /wheelhouse
${["triton", "triton-kernels", "flashinfer", "lmcache", "flash-attention", "vllm", "infinistore", "managed-alloc"]
    .map((stage) => `COPY --from=build-${stage} / /wheels`)
    .join("\n")}
COPY --from=additional / /additional
COPY vllm_managed_mem.py /

FROM cmm AS verify
COPY checks /checks
RUN /checks/all

FROM scratch AS additional

FROM scratch AS wheelhouse
${["triton", "flashinfer", "lmcache", "flash-attention", "vllm", "infinistore"].map((source) => `\nFROM scratch AS src-${source}\nADD https://example.com/${source}.git#main /\n`).join("")}`;

export const lmcacheDockerfile = `ARG BASE_IMAGE=nvcr.io/nvidia/pytorch:26.03-py3

FROM \${BASE_IMAGE} AS lmcache
ARG SOURCE_DATE_EPOCH
COPY --from=build-lmcache / /wheels
COPY serve /
`;

/** A folder with the program's assets, as the working folder of each test that calls the result. */
export function programs(): () => string {
    const temporaryFolder = temporaryFolders();
    return () => {
        const folder = temporaryFolder();
        writeTree(folder, {
            "assets/vllm/Dockerfile": vllmDockerfile,
            "assets/vllm/build/left-out/LEFT-OUT": "",
            "assets/vllm/locks/runtime.txt": "",
            "assets/vllm/managed_alloc.cu": "// allocator\n",
            "assets/vllm/vllm_managed_mem.py": "# launcher\n",
            "assets/vllm/checks/all": "#!/bin/sh\n",
            "assets/lmcache/Dockerfile": lmcacheDockerfile,
            "assets/lmcache/serve": "#!/bin/sh\n",
            "wheels/pip.conf": "[global]\n",
        });
        process.chdir(folder);
        return folder;
    };
}

/** The builder of these tests, in plain values. */
export const builder = {
    name: "gh200",
    endpoint: "tcp://10.0.0.1:1234",
    platform: "linux/arm64",
    serverName: "",
    caCertificate: "CA",
    clientCertificate: "CERT",
    clientKey: "KEY",
    minBuildkitVersion: "0.31.0",
    allowEmulation: false,
};
