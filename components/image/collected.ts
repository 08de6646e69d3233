import * as pulumi from "@pulumi/pulumi";
import { type Problem, problemLine } from "../internal/errors";
import { registryHost } from "./reference";
import { RegistryError, tagDigest } from "./registryClient";

/** Credentials of registries, as docker-build's Image has them; in a hook, what is secret comes as an Output. */
type Registries = pulumi.Input<{ address?: string; username?: string; password?: string }[] | undefined>;

/** What of an image's inputs says which other images it is built from. */
interface ImageInputs {
    context?: { named?: Record<string, { location?: string }> };
    registries?: Registries;
}

/**
 * Images by digest that a build takes files from and that their registry no longer has: deleted there, or collected. The state still names
 * them, so the same update would fail for ever. A registry that says nothing else than «not found» is left to the build.
 */
export async function collectedProblems({ context, registries }: ImageInputs): Promise<Problem[]> {
    const references = Object.values(context?.named ?? {}).flatMap(
        ({ location = "" }) => /^docker-image:\/\/(\S+@sha256:[0-9a-f]{64})$/.exec(location)?.[1] ?? [],
    );
    const asked = await Promise.all([...new Set(references)].map(async (reference) => ({ reference, answer: await ask(reference, registries) })));
    return asked
        .filter(({ answer }) => answer === "gone")
        .map(({ reference }) => ({
            path: `image ${reference}`,
            wrong: "is gone from its registry, and this build takes files from it",
            accepted: "an image that is there",
            fix: "pulumi up --refresh builds it again",
        }));
}

/** Whoever runs a preview asks for this by the variable GH200_PREVIEW_REGISTRY; by itself a preview touches no registry. */
export function previewLooks(): boolean {
    return pulumi.runtime.isDryRun() && (process.env.GH200_PREVIEW_REGISTRY ?? "") !== "";
}

/**
 * In a preview that was asked to look: warns of an image that the state names and its registry no longer has, and of a registry that does
 * not tell. An image that is yet to be built is not asked for.
 */
export function lookInPreview(component: pulumi.Resource, reference: pulumi.Output<string>, registries: Registries): void {
    if (!previewLooks()) {
        return;
    }
    reference.apply(async (known) => {
        const answer = await ask(known, (await isKnown(pulumi.output(registries))) ? registries : []);
        if (answer !== "there") {
            void pulumi.log.warn(problemLine({ path: `image ${known}`, ...unsettled(answer) }), component);
        }
    });
}

/** An image without credentials has none in its state, which the SDK takes for unknown in a preview; it leaves this property out of its types. */
const isKnown = (output: unknown): Promise<boolean> => (output as { isKnown: Promise<boolean> }).isKnown;

function unsettled(answer: "gone" | Error): Omit<Problem, "path"> {
    return answer === "gone"
        ? { wrong: "is gone from its registry, though nothing here changed", fix: "pulumi up --refresh builds it again" }
        : { wrong: `cannot be looked for: ${answer.message}`, accepted: "a registry that answers, with its credentials" };
}

async function ask(reference: string, registries: Registries): Promise<"there" | "gone" | Error> {
    const known = (await resolved(registries)) ?? [];
    const { username, password = "" } = known.find(({ address }) => address === registryHost(reference)) ?? {};
    try {
        await tagDigest(reference, username === undefined ? undefined : { username, password });
        return "there";
    } catch (error) {
        return error instanceof RegistryError && error.status === 404 ? "gone" : (error as Error);
    }
}

function resolved<T>(value: pulumi.Input<T>): Promise<T> {
    return new Promise((done) => void pulumi.output(value).apply((known) => done(known as T)));
}
