import { CoherentMode, Gh200Node, Placement, type PodTemplate, VllmServer } from "@gh200/gh200-vllm";
import * as pulumi from "@pulumi/pulumi";

const config = new pulumi.Config();

const node = new Gh200Node("node", {
    egmEnabled: false,
    coherentMode: CoherentMode.Driver,
});

/** SGLang answers on the same port and the same `/health`, so Service, probes and waits stay as they are. */
function runSglang({ spec: { containers } }: PodTemplate, { model, maxModelLenTokens }: { model: string; maxModelLenTokens: number }): void {
    const [server] = containers;
    server.command = ["python3", "-m", "sglang.launch_server"];
    server.args = ["--model-path", model, "--context-length", `${maxModelLenTokens}`, "--host", "0.0.0.0", "--port", "8000", "--enable-metrics"];
}

/** Its log goes where the team reads it. */
function addSidecar({ metadata, spec }: PodTemplate): void {
    metadata.annotations["example.com/logs"] = "shipped";
    spec.containers.push({
        name: "logs",
        image: config.require("sidecarImage"),
        resources: { requests: { cpu: "100m", memory: "64Mi" }, limits: { cpu: "100m", memory: "64Mi" } },
        securityContext: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ["ALL"] } },
    });
}

const server = new VllmServer(
    "sglang",
    {
        image: config.require("image"),
        model: config.require("model"),
        placement: Placement.Off,
        podLimitMiB: node.podLimitMiB,
        hbmBudgetMiB: node.hbmBudgetMiB,
        hostBudgetMiB: node.hostBudgetMiB,
        existingPullSecret: config.get("pullSecret"),
    },
    {
        transform: {
            pod: (template, values) => {
                runSglang(template, values);
                addSidecar(template);
            },
        },
    },
);

/** Address of the OpenAI API inside the cluster. */
export const endpoint = server.endpoint;
