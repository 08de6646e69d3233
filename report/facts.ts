import { expectedMinutes } from "../components/stages/plan";
import { stageTable } from "../components/stages/table";
import { inShort } from "./inShort";
import { type EngineRun, type StepMetadata } from "../tools/engine";

/** What a preview says, read from the engine's events. */
export interface PreviewFacts {
    stack: string;
    succeeded: boolean;
    /** `CREATE TYPE NAME` and the like, without what stays as it is. */
    changes: { op: string; type: string; name: string; properties: string[] }[];
    unchanged: number;
    /** Digest of the change; undefined where there is none, or the stack is not under approval. */
    digest: string | undefined;
    /** The change digest with what changes, as the program says it. */
    change: string[];
    warnings: string[];
    errors: string[];
    /** Stages that would be built again, in build order, by their own table. */
    rebuilt: { target: string; delivers: string; minutes: number }[];
    violations: { policy: string; level: string; message: string }[];
    /** Name of each policy pack that ran. */
    policyPacks: string[];
    memoryPlan: string[];
    /** Model, image, node, outage and what an update waits for, a line each. */
    short: string[];
    /** False where the preview was of a new stack, and so says nothing of what is deployed. */
    compared: boolean;
}

const imageType = "docker-build:index:Image";

export function previewFacts(stack: string, run: EngineRun, compared: boolean): PreviewFacts {
    const planned = run.events.flatMap(({ resourcePreEvent }) => (resourcePreEvent ? [resourcePreEvent.metadata] : []));
    // A provider is how something is made, and the stack what holds it: nothing that anybody deploys.
    const steps = planned.filter(({ type }) => !type.startsWith("pulumi:providers:") && type !== "pulumi:pulumi:Stack");
    const changed = steps.filter(({ op }) => op !== "same");
    const said = run.events.flatMap(({ diagnosticEvent }) => (diagnosticEvent && !diagnosticEvent.ephemeral ? [diagnosticEvent] : []));
    const lines = (severity: string) => said.filter((event) => event.severity === severity).flatMap(({ message }) => message.trim().split("\n"));
    const jobs = new Map(changed.filter(({ type }) => type === imageType).map((step) => [step.new?.inputs.target, jobsOf(step)]));
    const summary = run.events.find(({ summaryEvent }) => summaryEvent)?.summaryEvent as { PolicyPacks?: Record<string, string> } | undefined;
    const change = said.find(({ severity, message }) => severity === "info" && message.startsWith("change digest:"))?.message ?? "";
    const rebuilt = stageTable
        .filter(({ target }) => jobs.has(target))
        .map((stage) => ({ target: stage.target, delivers: stage.delivers, minutes: expectedMinutes(stage, jobs.get(stage.target) ?? 1) }));
    const outputs = stackOutputs(run);
    const memoryPlan = Array.isArray(outputs.memoryPlan) ? outputs.memoryPlan.map(String) : [];
    const changeLines = change.trim().split("\n").filter(Boolean);
    return {
        stack,
        compared,
        succeeded: run.status === 0,
        changes: changed.map((step) => ({
            op: step.op,
            type: step.type.split(":").at(-1) ?? step.type,
            name: nameOf(step),
            properties: changedProperties(step),
        })),
        unchanged: steps.length - changed.length,
        digest: /^change digest: ([0-9a-f]{64})/.exec(change)?.[1],
        change: changeLines,
        warnings: lines("warning"),
        // Pulumi's own last word says no more than that there were others.
        errors: lines("error").filter((line) => !/^(preview|update) failed$/.test(line)),
        rebuilt,
        violations: run.events.flatMap(({ policyEvent }) =>
            policyEvent ? [{ policy: policyEvent.policyName, level: policyEvent.enforcementLevel, message: violationText(policyEvent.message) }] : [],
        ),
        policyPacks: Object.keys(summary?.PolicyPacks ?? {}),
        memoryPlan,
        short:
            changed.length === 0
                ? []
                : inShort({
                      steps,
                      outputs,
                      memoryPlan,
                      change: changeLines,
                      warnings: said.filter(({ severity }) => severity === "warning").map(({ message }) => message),
                      rebuilt: { stages: rebuilt.length, of: stageTable.length, time: hours(rebuilt.reduce((sum, { minutes }) => sum + minutes, 0)) },
                  }),
    };
}

/** Compile jobs that an image's build is told. */
function jobsOf(step: StepMetadata): number {
    return Number((step.new?.inputs.buildArgs as Record<string, string> | undefined)?.MAX_JOBS) || 1;
}

const nameOf = ({ urn }: StepMetadata): string => urn.split("::").at(-1) ?? urn;

function changedProperties(step: StepMetadata): string[] {
    return step.op === "create"
        ? []
        : [
              ...new Set(
                  Object.keys(step.detailedDiff ?? {})
                      .concat(step.diffs ?? [])
                      .map((path) => path.split(/[.[]/)[0] ?? path),
              ),
          ];
}

/** The engine puts the policy's description above the violation. */
function violationText(message: string): string {
    return message.trim().split("\n").at(-1) ?? "";
}

function stackOutputs(run: EngineRun): Record<string, unknown> {
    const stack = run.events
        .flatMap(({ resOutputsEvent }) => (resOutputsEvent?.metadata.type === "pulumi:pulumi:Stack" ? [resOutputsEvent.metadata] : []))
        .at(-1);
    return stack?.new?.outputs ?? {};
}

/** As a person says it. */
export function hours(minutes: number): string {
    return minutes < 60 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
}
