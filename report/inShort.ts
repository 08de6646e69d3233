import type { StepMetadata } from "../tools/engine";

/** What an approver wants to know first, as far as the engine's events say it. */
export interface Glance {
    steps: readonly StepMetadata[];
    /** The stack's outputs. */
    outputs: Record<string, unknown>;
    memoryPlan: readonly string[];
    /** The change digest with what the program says of it, a line each. */
    change: readonly string[];
    /** What the program warns of, a text each. */
    warnings: readonly string[];
    /** Stages that are built again, of how many, and expected minutes in all. */
    rebuilt: { stages: number; of: number; time: string };
}

const openPoints = "an update of this stack is refused until these are settled:";

/** Model, image, node, outage and what an update waits for: what it is, and what of it is said. */
export function inShort(glance: Glance): string[] {
    const rows: [string, string[]][] = [
        ["serves", served(glance.steps)],
        ["image", image(glance)],
        ["node", glance.memoryPlan.slice(0, 2)],
        ["outage", outage(glance)],
        ["waits for", waitsFor(glance)],
    ];
    return rows.flatMap(([label, lines]) => lines.map((line, index) => `${(index === 0 ? label : "").padEnd(11)}${line}`));
}

interface PodTemplate {
    spec?: { containers?: { name?: string; args?: unknown[] }[] };
}
interface Workload {
    metadata?: { name?: string; namespace?: string };
    /** Of a Deployment, or of a LeaderWorkerSet. */
    spec?: { template?: PodTemplate; leaderWorkerTemplate?: { workerTemplate?: PodTemplate } };
}

/** What vLLM is told; undefined where the step is no server's. */
function argumentsOf({ type, new: after }: StepMetadata): string[] | undefined {
    if (!/:(Deployment|LeaderWorkerSet)$/.test(type)) {
        return undefined;
    }
    const { template, leaderWorkerTemplate } = (after?.inputs as Workload | undefined)?.spec ?? {};
    const containers = (template ?? leaderWorkerTemplate?.workerTemplate)?.spec?.containers ?? [];
    return containers.find(({ name }) => name === "vllm")?.args?.map(String);
}

function served(steps: readonly StepMetadata[]): string[] {
    return steps.flatMap((step) => {
        const args = argumentsOf(step);
        if (args === undefined) {
            return [];
        }
        const revision = args.includes("--revision") ? args[args.indexOf("--revision") + 1] : "no fixed revision";
        const { name, namespace } = (step.new?.inputs as Workload).metadata ?? {};
        return [`${args[0] ?? "no model"} at ${revision}, as ${namespace}/${name}`];
    });
}

function image({ outputs, rebuilt }: Glance): string[] {
    const name = [outputs.releaseRef, outputs.deployRef].find((text) => typeof text === "string" && text !== "") as string | undefined;
    const built = rebuilt.stages === 0 ? "no stage is built" : `${rebuilt.stages} of ${rebuilt.of} stages are built, about ${rebuilt.time}`;
    return name === undefined && rebuilt.stages === 0 ? [] : [`${name ?? "known after its build"}; ${built}`];
}

function outage({ steps, memoryPlan, rebuilt }: Glance): string[] {
    const changed = steps.filter((step) => step.op !== "same" && argumentsOf(step) !== undefined);
    if (changed.length === 0) {
        return [];
    }
    if (changed.every(({ op }) => op === "create")) {
        return ["none, since nothing serves yet"];
    }
    const stops = rebuilt.stages > 0 && memoryPlan.some((line) => line.endsWith("serving stops during a build"));
    return [stops ? `vLLM is down while its image is built, about ${rebuilt.time}, and starts anew` : "vLLM starts anew"];
}

function waitsFor({ change, warnings }: Glance): string[] {
    const open = warnings.filter((text) => text.startsWith(openPoints)).flatMap((text) => text.trim().split("\n").slice(1)).length;
    const refused = change[0]?.includes("(an update is refused:)") ? change.slice(1, 2) : [];
    return [
        ...(open > 0 ? [`${open} open ${open === 1 ? "point" : "points"}, below`] : []),
        ...refused.map((line) => line.trim().replace(/([0-9a-f]{12})[0-9a-f]{52}/, "$1")),
    ];
}
