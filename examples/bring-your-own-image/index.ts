import { CoherentMode, Gh200Node, Placement, VllmServer } from "@gh200/gh200-vllm";
import * as pulumi from "@pulumi/pulumi";

const config = new pulumi.Config();

const node = new Gh200Node("node", {
    egmEnabled: false,
    coherentMode: CoherentMode.Driver,
});
const vllm = new VllmServer("vllm", {
    image: config.require("image"),
    model: config.require("model"),
    // The image has no launcher that places memory: vLLM does as it always does.
    placement: Placement.Off,
    podLimitMiB: node.podLimitMiB,
    hbmBudgetMiB: node.hbmBudgetMiB,
    gpuMemoryUtilization: node.gpuMemoryUtilization,
    hostBudgetMiB: node.hostBudgetMiB,
    registryHost: config.get("registryHost"),
    pullUsername: config.get("pullUsername"),
    pullPassword: config.getSecret("pullPassword"),
});

/** Address of the OpenAI API inside the cluster. */
export const endpoint = vllm.endpoint;
