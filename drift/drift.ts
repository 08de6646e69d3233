import { type Problem } from "../components/internal/errors";
import type { EngineEvent, StepMetadata } from "../tools/engine";

/** What differs between a stack's state and the world: who changed it did not do it with this program. */
export function resourceDrift(events: readonly EngineEvent[]): Problem[] {
    const steps = events.flatMap(({ resOutputsEvent }) => (resOutputsEvent ? [resOutputsEvent.metadata] : []));
    return steps.filter((step) => step.op !== "same" && step.op !== "refresh" && step.type !== "pulumi:pulumi:Stack").map(describe);
}

function describe(step: StepMetadata): Problem {
    const kind = step.type.split(":").at(-1) ?? step.type;
    const path = `${kind} ${step.urn.split("::").at(-1)}`;
    if (step.op === "delete") {
        return { path, wrong: "is gone", fix: "pulumi up --refresh makes it again" };
    }
    const changed = Object.keys(step.detailedDiff ?? {}).filter((property) => !property.includes("managedFields") && !property.includes("resourceVersion"));
    const shown = changed.map((property) => `${property}${values(step, property)}`);
    return {
        path,
        wrong: `was changed by hand: ${shown.join(", ") || (step.diffs ?? []).join(", ") || "its outputs"}`,
        fix: "pulumi up --refresh puts it back",
    };
}

/** `: BEFORE → AFTER` of a property path such as `spec.template.spec.containers[0].image`. Only plain values are shown: others may hold secrets. */
function values(step: StepMetadata, property: string): string {
    const at = (root: Record<string, unknown> | undefined): unknown =>
        property
            .split(/[.[\]]+/)
            .filter(Boolean)
            .reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], root);
    const [before, after] = [at(step.old?.outputs) ?? at(step.old?.inputs), at(step.new?.outputs) ?? at(step.new?.inputs)];
    const plain = (value: unknown) => value === undefined || ["string", "number", "boolean"].includes(typeof value);
    return plain(before) && plain(after) ? ` ${JSON.stringify(before) ?? "none"} → ${JSON.stringify(after) ?? "none"}` : "";
}

/** A release tag that names another image than the one that is deployed. */
export function tagDrift(releaseRef: string, deployRef: string, digest: string | undefined): Problem[] {
    const deployed = deployRef.split("@")[1] ?? deployRef;
    if (digest === deployed) {
        return [];
    }
    return [
        {
            path: `tag ${releaseRef}`,
            wrong: digest === undefined ? "is gone" : `was moved by hand: ${deployed} → ${digest}`,
            accepted: "the digest that is deployed",
            fix: "what runs is pinned by digest; a release moves the tag back",
        },
    ];
}

/** Another daemon, or the same with an emptied folder, at the builder's address. */
export function builderDrift(endpoint: string, recorded: string | undefined, found: string): Problem[] {
    return recorded === undefined || recorded === "" || recorded === found
        ? []
        : [
              {
                  path: `builder ${endpoint}`,
                  wrong: `was replaced: worker ${recorded} → ${found}`,
                  fix: "its cache is another; the next build compiles from nothing",
              },
          ];
}
