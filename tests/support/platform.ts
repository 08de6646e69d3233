import * as pulumi from "@pulumi/pulumi";
import { type CmmPlatformArgs, type SettledPlatform, settlePlatform } from "../../components/platform/cmmPlatformArgs";
import { defaultSources } from "../../components/stages/sources";
import { certificatePair } from "./certificatePair";

export const commit = "0123456789abcdef0123456789abcdef01234567";
export const baseDigest = `sha256:${"b".repeat(64)}`;

const { certificate } = certificatePair("builder");

/** A platform with nothing open: the source document's stack with builder, base and commits settled. */
export function settledPlatform(overrides: Partial<CmmPlatformArgs> = {}): SettledPlatform & Required<Pick<SettledPlatform, "node" | "serving">> {
    const declared = {
        builder: { endpoint: "tcp://10.0.0.1:1234", caCertificate: certificate, clientCertificate: certificate, clientKey: pulumi.secret("builder key") },
        registry: { address: "atl.vultrcr.com/vllm", username: "pusher", password: "registry password" },
        image: {
            base: { name: "nvcr.io/nvidia/pytorch:26.03-py3", digest: baseDigest },
            imageTag: "gh200-vllm-cmm",
            vllmVersion: "cmm",
            imageSuffix: "-cmm",
            cudaArchList: "9.0a",
            sourceDateEpoch: 1775088000,
            registryCache: true,
        },
        sources: Object.fromEntries(Object.keys(defaultSources).map((source) => [source, { commit }])),
        stages: { disabled: [], builderMemoryGiB: 102, builderCores: 72 },
        node: { egmEnabled: false, coherentMode: "driver" },
        serving: { model: "Qwen/Qwen2.5-7B-Instruct", modelRevision: commit },
        ...overrides,
    } satisfies CmmPlatformArgs;
    return { ...declared, ...settlePlatform(declared) };
}
