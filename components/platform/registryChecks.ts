import * as pulumi from "@pulumi/pulumi";
import { adoptedProblems } from "../image/adopted";
import { previewLooks } from "../image/collected";
import { pullCredentialProblems } from "../image/pullCredential";
import { releaseReference } from "../image/reference";
import type { RegistryCredentials } from "../image/registryClient";
import { inputName, type Problem, problemLine, refuse } from "../internal/errors";
import { inContext } from "../internal/inContext";
import type { SettledPlatform } from "./cmmPlatformArgs";
import { isOwnRegistry } from "./openPoints";

/**
 * A hook for everything that an update makes or changes: it asks the registry once what decides whether the update may begin, so that
 * whatever comes first is stopped. Undefined where there is nothing to ask.
 */
export function registryHook(name: string, platform: SettledPlatform): pulumi.ResourceHook | undefined {
    if (!asksRegistry(platform)) {
        return undefined;
    }
    const once = { problems: undefined as Promise<Problem[]> | undefined };
    return new pulumi.ResourceHook(
        name,
        inContext(async () => refuse(await (once.problems ??= registryProblems(platform)))),
    );
}

/** In a preview that was asked to look at registries: what an update would be refused for. */
export async function warnOfRegistry(component: pulumi.Resource, platform: SettledPlatform): Promise<void> {
    for (const problem of previewLooks() && asksRegistry(platform) ? await registryProblems(platform) : []) {
        void pulumi.log.warn(problemLine(problem), component);
    }
}

/** Pods that pull with what pushes, where whoever reads their secret is not whoever started the update. */
export function pushingPodsWarning({ registry, serving }: SettledPlatform): Problem[] {
    const another = registry.pullUsername !== undefined || serving?.existingPullSecret !== undefined;
    return serving === undefined || registry.username === undefined || another || isOwnRegistry(registry.address)
        ? []
        : [
              {
                  path: inputName("registry.pullUsername"),
                  wrong: `is unset, so that the pods' pull secret holds what ${registry.username} may push with: whoever reads it could replace a release`,
                  accepted: "a user who may pull alone",
              },
          ];
}

function asksRegistry({ registry, image }: SettledPlatform): boolean {
    return registry.pullUsername !== undefined || image.use !== undefined;
}

async function registryProblems({ registry, image, rollback }: SettledPlatform): Promise<Problem[]> {
    const { username, password, pullUsername, pullPassword } = registry;
    const [address, pushWord, pullWord] = await resolved(pulumi.all([registry.address, password, pullPassword]));
    const release = { ...image, registry: address };
    // LMCache's image lies with the stages.
    const built = [release, { ...release, imageTag: `${image.imageTag}-stages` }].map(releaseReference);
    const references = image.use === undefined ? built : [image.use];
    const [pushes, pulls] = [user(username, pushWord), user(pullUsername, pullWord)];
    const problems = pulls === undefined ? [] : await pullCredentialProblems(references, pulls, pushes);
    // As a user who is refused, the image would be said to be unreadable too.
    return image.use === undefined || problems.length > 0
        ? problems
        : adoptedProblems(image.use, rollback ? undefined : releaseReference(release), pulls ?? pushes);
}

function user(username: string | undefined, password: string | undefined): RegistryCredentials | undefined {
    return username === undefined ? undefined : { username, password: password ?? "" };
}

function resolved<T>(value: pulumi.Output<T>): Promise<T> {
    return new Promise((done) => void value.apply((known) => done(known)));
}
