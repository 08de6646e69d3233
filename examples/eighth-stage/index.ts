import { CmmPlatform } from "@gh200/gh200-vllm";
import * as pulumi from "@pulumi/pulumi";

const config = new pulumi.Config();

// Built alone: no node and no server.
const platform = new CmmPlatform("gh200", {
    builder: { endpoint: config.get("endpoint"), caCertificate: config.get("caCertificate") },
    registry: { address: config.require("registry") },
    stages: {
        builderMemoryGiB: 101,
        builderCores: 72,
        additional: {
            "build-plugin": { dockerfile: "plugin/Dockerfile", delivers: "the team's vLLM plug-in" },
        },
        // It takes a minute: where it does not build, nobody waits for hours to hear it.
        order: ["build-plugin"],
    },
});

/** `REPOSITORY@DIGEST` of the image, the plug-in in it. */
export const deployRef = platform.deployRef;
