import type { PodRules } from "../components/rules/pods";
import { known } from "./known";

/**
 * The pods that a Kubernetes object runs, of whatever kind: each object in it that has a list of containers. So a kind that nobody
 * here knows (LeaderWorkerSet, JobSet, a list of pods) is seen too. What Helm installs is not: the engine sees a Release.
 */
export function podsOf(type: string, props: Record<string, unknown>): PodRules[] {
    return type.startsWith("kubernetes:") ? podsIn(props) : [];
}

function podsIn(value: unknown): PodRules[] {
    if (typeof value !== "object" || value === null) {
        return [];
    }
    const isPod = known(() => Array.isArray((value as PodRules).containers)) === true;
    const keys = known(() => Object.keys(value)) ?? [];
    return [...(isPod ? [value as PodRules] : []), ...keys.flatMap((key) => podsIn(known(() => (value as Record<string, unknown>)[key])))];
}
