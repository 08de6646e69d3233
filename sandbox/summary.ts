import * as fs from "node:fs";
import * as path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { byBuildOrder } from "../status/report";
import type { Api } from "./api";
import type { BuildSeconds } from "./events";
import type { Layout } from "./layout";
import { bold, dim, green, red, row, say } from "./report";

const PORT = 8000;
const SELECTOR = "app.kubernetes.io/name=vllm";

export interface Server {
    readonly namespace: string;
    readonly pod: string;
    readonly node: string;
    readonly address: string;
    readonly ready: boolean;
    /** What requests to /v1 must carry; empty where none is asked for. */
    readonly apiKey: string;
}

export async function findServer(api: Api): Promise<Server | undefined> {
    interface Pod {
        metadata: { name: string; namespace: string; deletionTimestamp?: string };
        spec: { nodeName?: string; containers: { env?: { name: string; valueFrom?: { secretKeyRef?: { name: string; key: string } } }[] }[] };
        status: { podIP?: string; conditions?: { type: string; status: string }[] };
    }
    const pods = await api.get<{ items: Pod[] }>(`/api/v1/pods?labelSelector=${encodeURIComponent(SELECTOR)}`);
    const pod = pods.items.find(({ metadata }) => metadata.deletionTimestamp === undefined);
    if (pod === undefined) {
        return undefined;
    }
    const { name, namespace } = pod.metadata;
    const reference = pod.spec.containers.flatMap(({ env = [] }) => env).find((variable) => variable.name === "VLLM_API_KEY")?.valueFrom?.secretKeyRef;
    const secret = reference && (await api.get<{ data: Record<string, string> }>(`/api/v1/namespaces/${namespace}/secrets/${reference.name}`));
    return {
        namespace,
        pod: name,
        node: pod.spec.nodeName ?? "none",
        address: pod.status.podIP ?? "",
        ready: pod.status.conditions?.some(({ type, status }) => type === "Ready" && status === "True") === true,
        apiKey: reference === undefined ? "" : Buffer.from(secret?.data[reference.key] ?? "", "base64").toString(),
    };
}

export interface Completion {
    readonly model: string;
    readonly prompt: string;
    readonly text: string;
}

/** One completion from the server, asked from the host by the pod's address. */
export async function complete(server: Server, prompt: string): Promise<Completion> {
    const models = (await call(server, "/v1/models")) as { data: { id: string }[] };
    const model = models.data[0]?.id ?? "";
    const answer = (await call(server, "/v1/completions", { model, prompt, max_tokens: 16 })) as { choices: { text: string }[] };
    return { model, prompt, text: answer.choices[0]?.text ?? "" };
}

/** A line to paste. There is no kube-proxy here, so a Service has no address; a pod has. The key lies in a file, so that no terminal keeps it. */
export function curlLine(server: Server, model: string, layout: Layout): string {
    const file = path.join(layout.dir, "api-key");
    fs.writeFileSync(file, server.apiKey, { mode: 0o600 });
    return `curl -s http://${server.address}:${PORT}/v1/completions \\\n    -H "authorization: Bearer $(cat ${file})" \\\n    -H 'content-type: application/json' \\\n    -d '{"model": "${model}", "prompt": "Hello", "max_tokens": 16}'`;
}

export async function printSummary(layout: Layout, api: Api, outputs: Record<string, unknown>, seconds: BuildSeconds): Promise<void> {
    say();
    say(bold("Image"));
    row("release", String(outputs.releaseRef));
    row("digest", String(outputs.deployRef).split("@")[1] ?? String(outputs.deployRef));
    say(bold("Stages"));
    const digests = (outputs.stageDigests ?? {}) as Record<string, string>;
    for (const stage of Object.keys(digests).sort(byBuildOrder)) {
        row(stage, `${digests[stage]?.slice(0, 19)}  ${duration(seconds, stage)}`);
    }
    say(bold("Server"));
    const server = await readyServer(api);
    if (server === undefined) {
        row("pod", red("none"));
        return;
    }
    row("pod", `${server.namespace}/${server.pod} ${server.ready ? green("Ready") : red("not ready")} on ${server.node}`);
    if (server.ready) {
        const { model, prompt, text } = await complete(server, "Hello");
        row("model", model);
        row("completion", `«${prompt}» → «${text.trim()}»`);
        say(dim(`  ${curlLine(server, model, layout)}`));
    }
    say(bold("Next"));
    row("logs", layout.logs);
    row("kubectl", `KUBECONFIG=${layout.kubeconfig}`);
    row("health", "npm run sandbox:status");
    row("change something", "edit assets/ or sandbox/sources/, then npm run sandbox");
    row("the real thing", "npm run pulumi -- preview -s gh200");
    row("remove it all", "npm run sandbox:down");
}

/** Pulumi has waited for the rollout; what is waited for here is a pod that is being replaced after a restart of the node. */
async function readyServer(api: Api): Promise<Server | undefined> {
    for (const deadline = Date.now() + 60_000; ; await sleep(500)) {
        const server = await findServer(api);
        if (server?.ready === true || Date.now() > deadline) {
            return server;
        }
    }
}

/** Resources are named PROGRAM-STAGE. */
function duration(seconds: BuildSeconds, stage: string): string {
    const found = Object.entries(seconds).find(([name]) => name.endsWith(`-${stage}`));
    return found === undefined ? "" : `${found[1].toFixed(1)} s`;
}

async function call(server: Server, at: string, body?: object): Promise<unknown> {
    const headers = { authorization: `Bearer ${server.apiKey}`, "content-type": "application/json" };
    const post = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
    const answer = await fetch(`http://${server.address}:${PORT}${at}`, { ...post, headers, signal: AbortSignal.timeout(30_000) }).catch((cause: unknown) => {
        throw new Error(`${at} does not answer`, { cause });
    });
    if (!answer.ok) {
        throw new Error(`${at} answers ${answer.status}: ${(await answer.text()).slice(0, 200)}`);
    }
    return answer.json();
}
