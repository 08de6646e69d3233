import { isOlder, lowestVersions } from "../image/versions";
import type { Problem } from "../internal/errors";
import { dockerfileFacts } from "./dockerfile";

/** Versions by name: `vllm`, `torch`, `cuda`, and whatever else of an image has one. */
export type Versions = Record<string, string>;

/** The source document's first hard rule. */
export const floors: Versions = lowestVersions;

/** Build arguments of assets/vllm/Dockerfile that say a version; the build fails where the base or vLLM says another. */
export const versionArguments: Record<string, string> = { cuda: "EXPECTED_CUDA", torch: "EXPECTED_TORCH", vllm: "VLLM_RELEASE" };

/** The versions that a Dockerfile declares, of several the lowest: any stage may use it. Build arguments take the place of those of ARG. */
export function dockerfileVersions(dockerfile: string, buildArgs: Readonly<Record<string, string>> = {}): Versions {
    const { declared } = dockerfileFacts(dockerfile);
    const versions = Object.entries(versionArguments).map(([name, arg]) => {
        const passed = buildArgs[arg];
        const own = declared.filter((one) => one.name === arg && (one.by === "ENV" || passed === undefined)).map(({ value }) => value);
        const [lowest] = [...(passed === undefined ? [] : [passed]), ...own].sort((a, b) => (isOlder(a, b) ? -1 : isOlder(b, a) ? 1 : 0));
        return [name, lowest];
    });
    return Object.fromEntries(versions.filter(([, version]) => version !== undefined)) as Versions;
}

/** Whether a text can be compared as a version: `0.19.0`, `v3.6.0`, `26.03-py3`; a branch or commit cannot. */
export function isVersion(text: string): boolean {
    return /^v?\d+\.\d+/.test(text);
}

/** Versions below the hard rule's floors. */
export function belowFloors(path: string, versions: Versions): Problem[] {
    return Object.entries(floors)
        .filter(([name, floor]) => versions[name] !== undefined && isOlder(versions[name], floor))
        .map(([name, floor]) => ({
            path: `${path}.${name}`,
            value: versions[name],
            wrong: "is below the floor",
            accepted: `${floor} or newer`,
            fix: "hard rule 1: no downgrades",
        }));
}

/** Versions that are lower than what is deployed. A name that either side lacks says nothing. */
export function downgrades(path: string, deployed: Versions, next: Versions): Problem[] {
    return Object.entries(next)
        .filter(([name, version]) => {
            const before = deployed[name];
            return before !== undefined && isVersion(before) && isVersion(version) && isOlder(numbers(version), numbers(before));
        })
        .map(([name, version]) => ({
            path: `${path}.${name}`,
            value: version,
            wrong: "is lower than what is deployed",
            accepted: `${deployed[name]} or newer`,
            fix: "hard rule 1: no downgrades; only an approved rollback goes back to a state that this stack had",
        }));
}

const numbers = (version: string): string => version.replace(/^v/, "");
