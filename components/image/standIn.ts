import { inputName, type Problem } from "../internal/errors";
import { isLoopbackRegistry } from "./reference";

/** Label of everything that was built from a stand-in base or source; the Dockerfile sets it. */
export const standInLabel = "ai.vllm.gh200.stand-in";

/** Why this image may not get a release name; empty when it may. */
export function standInProblems(repository: string, labels: Record<string, string>): Problem[] {
    if (labels[standInLabel] !== "true" || isLoopbackRegistry(repository)) {
        return [];
    }
    return [
        {
            path: inputName("registry.address"),
            value: repository,
            wrong: `the image is made of stand-ins (label ${standInLabel}) and must not get a name that others deploy`,
            accepted: "a registry on this machine, as the sandbox's",
            fix: `build from the real base and sources: ${inputName("image.base")} and ${inputName("sources")}`,
        },
    ];
}
