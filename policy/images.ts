import type { ResourceValidationArgs, ResourceValidationPolicy } from "@pulumi/policy";
import { isDigestReference, isLoopbackRegistry } from "../components/image/reference";
import { type Problem, problemLine } from "../components/internal/errors";
import { leftOutProblems } from "../components/rules/stages";
import { plaintextSecretProblems } from "../components/rules/pods";
import { belowFloors, dockerfileVersions, floors, versionArguments } from "../components/rules/versions";
import { known, knownEntries } from "./known";

/** What the rules look at of a docker-build Image, whoever declares it. */
interface ImageFacts {
    target: string;
    dockerfile: string;
    buildArgs: Record<string, string>;
    /** Named contexts by name. */
    contexts: Record<string, string>;
    platforms: string[];
    tags: string[];
}

function imageFacts({ type, props }: ResourceValidationArgs): ImageFacts | undefined {
    if (type !== "docker-build:index:Image") {
        return undefined;
    }
    const image = props as {
        target?: string;
        dockerfile?: { inline?: string };
        context?: { named?: Record<string, { location: string }> };
        buildArgs?: Record<string, string>;
        platforms?: string[];
        tags?: string[];
    };
    const named = known(() => image.context?.named) ?? {};
    return {
        target: known(() => image.target) ?? "",
        dockerfile: known(() => image.dockerfile?.inline) ?? "",
        buildArgs: knownEntries(() => image.buildArgs),
        contexts: knownEntries(() => Object.fromEntries(Object.keys(named).map((name) => [name, known(() => named[name]?.location)]))),
        platforms: Object.values(knownEntries(() => ({ ...image.platforms }))),
        tags: Object.values(knownEntries(() => ({ ...image.tags }))),
    };
}

/** The value that a Dockerfile's ARG has in a build: what is passed, else its default. */
function argument({ dockerfile, buildArgs }: ImageFacts, name: string): string | undefined {
    return buildArgs[name] ?? new RegExp(`^ARG ${name}=(\\S+)`, "m").exec(dockerfile)?.[1];
}

function imagePolicy(
    policy: Omit<ResourceValidationPolicy, "validateResource" | "remediateResource">,
    problems: (image: ImageFacts, name: string) => Problem[],
): ResourceValidationPolicy {
    return {
        enforcementLevel: "mandatory",
        ...policy,
        validateResource: (args, reportViolation) => {
            const image = imageFacts(args);
            for (const problem of image === undefined ? [] : problems(image, args.name)) {
                reportViolation(problemLine(problem));
            }
        },
    };
}

const floorPolicies = Object.entries(floors).map(([name, floor]) =>
    imagePolicy({ name: `${name}-floor`, description: `Hard rule 1: ${name} ${floor} or newer.` }, (image, resource) => {
        const version = image.buildArgs[versionArguments[name] as string] ?? dockerfileVersions(image.dockerfile)[name];
        return version === undefined ? [] : belowFloors(resource, { [name]: version });
    }),
);

export const imagePolicies: ResourceValidationPolicy[] = [
    ...floorPolicies,
    imagePolicy(
        { name: "every-stage-compiled", description: "Hard rule 2: no compiled stage is left out, but those that the stage table excepts with a reason." },
        (image, name) => {
            const leftOut = Object.entries(image.contexts).filter(
                ([context, location]) => context.startsWith("build-") && !location.startsWith("docker-image://"),
            );
            return leftOutProblems(
                `${name}.context.named`,
                leftOut.map(([context]) => context),
            );
        },
    ),
    imagePolicy({ name: "images-by-digest", description: "What an image is built from is named by digest." }, (image, name) =>
        Object.entries(image.contexts)
            .filter(([, location]) => location.startsWith("docker-image://") && !isDigestReference(location.slice("docker-image://".length)))
            .map(([context, location]) => ({
                path: `${name}.context.named.${context}`,
                value: location,
                wrong: "is not named by digest",
                accepted: "docker-image://REPOSITORY@sha256:DIGEST",
            })),
    ),
    imagePolicy(
        {
            name: "base-by-digest",
            description:
                "The base image is named by digest. Advisory, because a preview shows a stack before it is pinned; an update of one is refused by the components.",
            enforcementLevel: "advisory",
        },
        (image, name) => {
            const base = argument(image, "BASE_IMAGE");
            return base === undefined || isDigestReference(base)
                ? []
                : [{ path: `${name}.buildArgs.BASE_IMAGE`, value: base, wrong: "is unpinned", accepted: "NAME@sha256:DIGEST" }];
        },
    ),
    imagePolicy({ name: "arm64-sm90a", description: "Built for linux/arm64 and sm_90a alone, a GH200's." }, (image, name) => {
        const arch = argument(image, "CUDA_ARCH_LIST");
        return [
            ...image.platforms
                .filter((platform) => platform !== "linux/arm64")
                .map((platform) => ({ path: `${name}.platforms`, value: platform, wrong: "is not a GH200's platform", accepted: "linux/arm64" })),
            ...(arch === undefined || arch === "9.0a"
                ? []
                : [{ path: `${name}.buildArgs.CUDA_ARCH_LIST`, value: arch, wrong: "is not a GH200's GPU architecture", accepted: "9.0a" }]),
        ];
    }),
    imagePolicy(
        { name: "no-stand-ins-in-production", description: "Nothing that is made of stand-ins is pushed to a registry that others can reach." },
        (image, name) => {
            const standIns = [...Object.values(image.contexts), argument(image, "BASE_IMAGE") ?? ""].filter((from) => /(^|\/)(stand-in|sandbox)\//.test(from));
            return image.tags
                .filter((tag) => standIns.length > 0 && !isLoopbackRegistry(tag))
                .map((tag) => ({
                    path: `${name}.tags`,
                    value: tag,
                    wrong: `would get stand-ins (${standIns[0]})`,
                    accepted: "a registry on this machine",
                    fix: "build from the real base and sources",
                }));
        },
    ),
    imagePolicy(
        {
            name: "no-plaintext-secret-in-build",
            description: "No build argument and no address of a source holds a secret: both stay in the image's history and in state.",
        },
        (image, name) => [
            ...plaintextSecretProblems(`${name}.buildArgs`, image.buildArgs),
            ...plaintextSecretProblems(`${name}.context.named`, image.contexts),
        ],
    ),
];
