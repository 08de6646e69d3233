import * as pulumi from "@pulumi/pulumi";
import type { Problem } from "../internal/errors";
import { registryHost } from "./reference";
import { RegistryError, tagDigest } from "./registryClient";

/** What of an image's inputs says which other images it is built from. */
interface ImageInputs {
    context?: { named?: Record<string, { location?: string }> };
    registries?: pulumi.Input<{ address?: string; username?: string; password?: string }[]>;
}

/**
 * Images by digest that a build takes files from and that their registry no longer has: deleted there, or collected. The state still names
 * them, so the same update would fail for ever. A registry that says nothing else than «not found» is left to the build.
 */
export async function collectedProblems({ context, registries }: ImageInputs): Promise<Problem[]> {
    const known = (await resolved(registries)) ?? [];
    const references = Object.values(context?.named ?? {}).flatMap(
        ({ location = "" }) => /^docker-image:\/\/(\S+@sha256:[0-9a-f]{64})$/.exec(location)?.[1] ?? [],
    );
    const gone = await Promise.all(
        [...new Set(references)].map(async (reference) => {
            const { username, password = "" } = known.find(({ address }) => address === registryHost(reference)) ?? {};
            try {
                await tagDigest(reference, username === undefined ? undefined : { username, password });
                return false;
            } catch (error) {
                return error instanceof RegistryError && error.status === 404 && reference;
            }
        }),
    );
    return gone.flatMap((reference) =>
        reference === false
            ? []
            : [
                  {
                      path: `image ${reference}`,
                      wrong: "is gone from its registry, and this build takes files from it",
                      accepted: "an image that is there",
                      fix: "pulumi up --refresh builds it again",
                  },
              ],
    );
}

/** In a hook, what is secret comes as an Output. */
function resolved<T>(value: pulumi.Input<T>): Promise<T> {
    return new Promise((done) => void pulumi.output(value).apply((known) => done(known as T)));
}
