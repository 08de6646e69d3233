import { CmmPlatform, CoherentMode } from "@gh200/gh200-vllm";
import * as pulumi from "@pulumi/pulumi";

const config = new pulumi.Config();

const platform = new CmmPlatform("gh200", {
    builder: {
        endpoint: config.get("endpoint"),
        caCertificate: config.get("caCertificate"),
        clientCertificate: config.get("clientCertificate"),
        clientKey: config.getSecret("clientKey"),
    },
    registry: {
        address: config.require("registry"),
        username: config.get("registryUsername"),
        password: config.getSecret("registryPassword"),
    },
    image: { base: { digest: config.get("baseDigest") } },
    stages: { builderMemoryGiB: 101, builderCores: 72 },
    node: {
        // What the BIOS and the driver are set to; docs/deployment.md says where to read it.
        egmEnabled: true,
        coherentMode: CoherentMode.Numa,
        acknowledgeEgmHidesMemory: true,
    },
    serving: { model: "Qwen/Qwen2.5-7B-Instruct", modelGiB: 15 },
});

/** `REPOSITORY@DIGEST` that is deployed. */
export const deployRef = platform.deployRef;
/** Address of the OpenAI API inside the cluster. */
export const endpoint = platform.endpoint;
/** What the node's memory is promised to. */
export const memoryPlan = platform.memoryPlan;
