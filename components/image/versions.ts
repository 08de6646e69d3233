import { lt, valid } from "@renovatebot/pep440";
import { inputName, type Problem } from "../internal/errors";
import { dirtySuffix } from "../stages/localSource";

/** Rule 1 of the source document: nothing below these, whatever is deployed. */
export const lowestVersions = { cuda: "13", torch: "2.9", vllm: "0.18.1" } as const;

/** Labels that the image's build computes from what is installed: it fails where one would say otherwise. */
const label = (what: keyof typeof lowestVersions): string => `ai.vllm.gh200.${what}`;
const sourceLabels = "ai.vllm.gh200.source.";

/**
 * Why an image may not be released by what its own labels say: older than allowed, or than the image
 * that has the release name now.
 *
 * @param released labels of the image that has the name now; absent where none has.
 */
export function versionProblems(labels: Record<string, string>, released: Record<string, string> = {}): Problem[] {
    return (Object.keys(lowestVersions) as (keyof typeof lowestVersions)[]).flatMap((what): Problem[] => {
        const found = labels[label(what)];
        const lowest = lowestVersions[what];
        const before = released[label(what)];
        const path = `label ${label(what)}`;
        if (found === undefined) {
            return [
                { path, wrong: "is missing, so the image does not say what is in it", accepted: `${lowest} or newer; build it with assets/vllm/Dockerfile` },
            ];
        }
        if (isOlder(found, lowest)) {
            return [{ path, value: found, wrong: "is older than rule 1 allows", accepted: `${lowest} or newer` }];
        }
        return before !== undefined && isOlder(found, before)
            ? [{ path, value: found, wrong: `is older than ${before}, which is released`, accepted: `${before} or newer` }]
            : [];
    });
}

/** Sources that no commit holds: such an image can be tried, and not be made again. */
export function dirtyProblems(labels: Record<string, string>): Problem[] {
    return Object.entries(labels)
        .filter(([key, value]) => key.startsWith(sourceLabels) && value.endsWith(dirtySuffix))
        .map(([key, value]) => ({
            path: `label ${key}`,
            value,
            wrong: "is built from changes that no commit holds, and gets no release name",
            accepted: "a commit",
            fix: `commit them in the checkout of ${inputName(`sources.src-${key.slice(sourceLabels.length)}`)}`,
        }));
}

/**
 * By PEP 440, which Python packages have, and CUDA's plain numbers too: a release candidate is older than its release, `13` than `13.2`, and
 * what a builder put behind a `+` says nothing of age. Text that is no such version, e.g. NVIDIA's `26.03-py3`, counts by its numbers.
 */
export function isOlder(version: string, than: string): boolean {
    const release = (text: string): string => {
        const [plain = ""] = text.split("+");
        return valid(plain) ?? (/^v?\d+(\.\d+)*/.exec(plain)?.[0] || "0");
    };
    return lt(release(version), release(than));
}
