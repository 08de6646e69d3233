import { stageTable } from "../components/stages/table";

/** What `npm run status` shows of a stack, from its exported state and history. Pure; main.ts fetches both. */

export interface Resource {
    urn: string;
    type: string;
    inputs?: Record<string, unknown>;
    outputs?: Record<string, unknown>;
    modified?: string;
}

export interface HistoryEntry {
    kind: string;
    result: string;
    startTime: string;
    message?: string;
}

export interface StackState {
    stack: string;
    resources: Resource[];
    history: HistoryEntry[];
    approver: string | undefined;
}

export type StatusRow = readonly [label: string, value: string];

/** One row a fact, in the order that a person asks for them. */
export function statusRows(state: StackState): StatusRow[] {
    const outputs = outputsOf(state.resources);
    const text = (key: string) => (typeof outputs[key] === "string" && outputs[key] !== "" ? outputs[key] : undefined);
    const rows: StatusRow[] = [
        ["stack", state.stack],
        ["deployed", text("deployRef") ?? "nothing"],
        ["release", text("releaseRef") ?? "none"],
    ];
    const digests = (outputs.stageDigests ?? {}) as Record<string, string>;
    for (const stage of Object.keys(digests).sort(byBuildOrder)) {
        rows.push([stage, [digests[stage]?.slice(0, 19) ?? "", ...revisions(state.resources, stage)].join("  ")]);
    }
    for (const [index, line] of planLines(outputs.memoryPlan).entries()) {
        rows.push([index === 0 ? "memory" : "", line]);
    }
    for (const [index, line] of holeLines(outputs.knownHoles).entries()) {
        rows.push([index === 0 ? "known holes" : "", line]);
    }
    rows.push(["approver", state.approver ?? "none required"]);
    rows.push(["last update", describe(state.history[0])]);
    const failure = state.history.find(({ result }) => result === "failed");
    rows.push(["last failure", describe(failure)]);
    return rows;
}

function outputsOf(resources: readonly Resource[]): Record<string, unknown> {
    return resources.find(({ type }) => type === "pulumi:pulumi:Stack")?.outputs ?? {};
}

/** Version 0.1.0 had the plan in one text. */
function planLines(plan: unknown): string[] {
    return Array.isArray(plan) ? plan.map(String) : typeof plan === "string" ? plan.split("\n") : ["none"];
}

/** A state of before 2026-12-01 has none written down, which says nothing. */
function holeLines(holes: unknown): string[] {
    return !Array.isArray(holes) ? ["not recorded"] : holes.length === 0 ? ["none"] : holes.map(String);
}

/** The memory plan as an SVG; undefined in a state that has none. */
export function pictureOf(resources: readonly Resource[]): string | undefined {
    const svg = outputsOf(resources).__memoryPicture;
    return typeof svg === "string" ? svg : undefined;
}

/** State sorts by name; stages are read in the order in which they are built, what is no stage last. */
export function byBuildOrder(a: string, b: string): number {
    const position = (stage: string) => stageTable.findIndex(({ target }) => target === stage) + 1 || stageTable.length + 1;
    return position(a) - position(b);
}

/** Which source each stage was built from: what its image was told, `src-vllm=<commit>`. */
function revisions(resources: Resource[], stage: string): string[] {
    const image = resources.find(({ urn, type }) => type === "docker-build:index:Image" && urn.endsWith(`-${stage}`));
    const named = Object.keys(((image?.inputs?.context ?? {}) as { named?: Record<string, unknown> }).named ?? {});
    const buildArgs = (image?.inputs?.buildArgs ?? {}) as Record<string, string>;
    return named
        .filter((name) => name.startsWith("src-"))
        .map((name) => `${name}=${(buildArgs[`${name.replaceAll("-", "_").toUpperCase()}_REVISION`] ?? "unrecorded").slice(0, 12)}`);
}

function describe(entry: HistoryEntry | undefined): string {
    return entry === undefined ? "none" : `${entry.kind} ${entry.result} at ${entry.startTime}${entry.message ? `: ${entry.message}` : ""}`;
}

/** A line to paste: the API server forwards, so that it works from wherever kubectl does. */
export function curlLines(resources: Resource[], kubeconfig: string | undefined): string[] {
    const service = resources.find(({ type }) => type === "kubernetes:core/v1:Service");
    const deployment = resources.find(({ type }) => type === "kubernetes:apps/v1:Deployment");
    const metadata = (service?.inputs?.metadata ?? {}) as { name?: string; namespace?: string };
    if (metadata.name === undefined || deployment === undefined) {
        return [];
    }
    const prefix = kubeconfig === undefined ? "" : `KUBECONFIG=${kubeconfig} `;
    const { key, name } = apiKeyOf(deployment) ?? {};
    const bearer =
        name === undefined
            ? ""
            : ` -H "authorization: Bearer $(${prefix}kubectl -n ${metadata.namespace} get secret ${name} -o jsonpath='{.data.${key}}' | base64 -d)"`;
    return [`${prefix}kubectl -n ${metadata.namespace} port-forward deployment/${metadata.name} 8000 &`, `curl -s${bearer} http://localhost:8000/v1/models`];
}

/** Where the key lies that requests to /v1 must carry. */
function apiKeyOf(deployment: Resource): { name: string; key: string } | undefined {
    interface PodSpec {
        containers?: { env?: { name: string; valueFrom?: { secretKeyRef?: { name: string; key: string } } }[] }[];
    }
    const { containers = [] } = (deployment.inputs?.spec as { template?: { spec?: PodSpec } } | undefined)?.template?.spec ?? {};
    return containers.flatMap(({ env = [] }) => env).find(({ name }) => name === "VLLM_API_KEY")?.valueFrom?.secretKeyRef;
}
