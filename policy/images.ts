import type { PolicyResource, ResourceValidationPolicy, StackValidationPolicy } from "@pulumi/policy";
import { isDigestReference, isLoopbackRegistry, normalised } from "../components/image/reference";
import { type Problem, problemLine } from "../components/internal/errors";
import { leftOutProblems } from "../components/rules/stages";
import { plaintextSecretProblems } from "../components/rules/pods";
import { dockerfileFacts } from "../components/rules/dockerfile";
import { belowFloors, dockerfileVersions, floors } from "../components/rules/versions";
import { known, knownEntries } from "./known";

/** What the rules look at of a docker-build Image, whoever declares it. */
interface ImageFacts {
    target: string;
    /** Its text; undefined where it cannot be read. */
    dockerfile: string | undefined;
    buildArgs: Record<string, string>;
    /** Named contexts by name. */
    contexts: Record<string, string>;
    /** Names of all named contexts; undefined while a preview does not know them. */
    contextNames: string[] | undefined;
    platforms: string[];
    tags: string[];
    /** Build caches that the build believes: a registry's by its reference, any other by what it is. */
    caches: string[];
}

function imageFacts({ type, props }: Pick<PolicyResource, "type" | "props">): ImageFacts | undefined {
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
        cacheFrom?: { registry?: { ref?: string } }[];
    };
    const given = known(() => ({ of: image.context?.named ?? {} }))?.of;
    const named = given ?? {};
    return {
        target: known(() => image.target) ?? "",
        dockerfile: dockerfileText(image),
        buildArgs: knownEntries(() => image.buildArgs),
        contexts: knownEntries(() => Object.fromEntries(Object.keys(named).map((name) => [name, known(() => named[name]?.location)]))),
        contextNames: given === undefined ? undefined : Object.keys(given),
        platforms: Object.values(knownEntries(() => ({ ...image.platforms }))),
        tags: Object.values(knownEntries(() => ({ ...image.tags }))),
        caches: (known(() => image.cacheFrom) ?? []).flatMap((cache) => known(() => cache.registry?.ref ?? Object.keys(cache).join(", ")) ?? []),
    };
}

/** The text that BuildKit reads; undefined where it is a file, which the engine does not show a policy. */
function dockerfileText(image: { dockerfile?: { inline?: string } }): string | undefined {
    const read = known(() => ({ inline: image.dockerfile?.inline }));
    // What a preview does not know yet, an update does. The provider fills what is absent with nothing.
    return read === undefined ? "" : read.inline || undefined;
}

/** The values that a Dockerfile's argument has in a build: what is passed, else its defaults, and what ENV makes of it. */
function values({ dockerfile = "", buildArgs }: ImageFacts, name: string): string[] {
    const passed = buildArgs[name];
    const { declared } = dockerfileFacts(dockerfile);
    return [
        ...(passed === undefined ? [] : [passed]),
        ...declared.filter((one) => one.name === name && (one.by === "ENV" || passed === undefined)).map(({ value }) => value),
    ];
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
        const version = dockerfileVersions(image.dockerfile ?? "", image.buildArgs)[name];
        return version === undefined ? [] : belowFloors(resource, { [name]: version });
    }),
);

export const imagePolicies: (ResourceValidationPolicy | StackValidationPolicy)[] = [
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
    imagePolicy({ name: "dockerfile-inline", description: "The Dockerfile is given as text, which the other policies read." }, ({ dockerfile }, name) =>
        dockerfile === undefined
            ? [
                  {
                      path: `${name}.dockerfile.location`,
                      wrong: "is a file, which no policy sees",
                      accepted: "its text, as dockerfile.inline",
                  },
              ]
            : [],
    ),
    imagePolicy(
        { name: "images-by-digest", description: "What an image is built from is named by digest, in its contexts and in its Dockerfile." },
        (image, name) => [
            ...dockerfileImages(image, name),
            // Whatever it reads the Dockerfile with decides what is built: BuildKit takes this in the place of `# syntax=`.
            ...Object.entries({ BUILDKIT_SYNTAX: image.buildArgs.BUILDKIT_SYNTAX })
                .filter(([, frontend]) => frontend !== undefined && !isDigestReference(frontend))
                .map(([argument, frontend]) => ({
                    path: `${name}.buildArgs.${argument}`,
                    value: frontend,
                    wrong: "is not named by digest",
                    accepted: "REPOSITORY@sha256:DIGEST",
                })),
            ...Object.entries(image.contexts)
                .filter(([, location]) => location.startsWith("docker-image://") && !isDigestReference(location.slice("docker-image://".length)))
                .map(([context, location]) => ({
                    path: `${name}.context.named.${context}`,
                    value: location,
                    wrong: "is not named by digest",
                    accepted: "docker-image://REPOSITORY@sha256:DIGEST",
                })),
        ],
    ),
    imagePolicy(
        {
            name: "base-by-digest",
            description:
                "The base image is named by digest. Advisory, because a preview shows a stack before it is pinned; an update of one is refused by the components.",
            enforcementLevel: "advisory",
        },
        (image, name) => {
            return values(image, "BASE_IMAGE")
                .filter((base) => !isDigestReference(base))
                .map((base) => ({ path: `${name}.buildArgs.BASE_IMAGE`, value: base, wrong: "is unpinned", accepted: "NAME@sha256:DIGEST" }));
        },
    ),
    imagePolicy({ name: "arm64-sm90a", description: "Built for linux/arm64 and sm_90a alone, a GH200's." }, (image, name) => {
        return [
            ...image.platforms
                .filter((platform) => platform !== "linux/arm64")
                .map((platform) => ({ path: `${name}.platforms`, value: platform, wrong: "is not a GH200's platform", accepted: "linux/arm64" })),
            ...dockerfileFacts(image.dockerfile ?? "", [], image.buildArgs)
                .platforms.filter((platform) => platform !== "linux/arm64")
                .map((platform) => ({ path: `${name}.dockerfile`, value: platform, wrong: "is not a GH200's platform", accepted: "linux/arm64" })),
            ...values(image, "CUDA_ARCH_LIST")
                .filter((arch) => arch !== "9.0a")
                .map((arch) => ({ path: `${name}.buildArgs.CUDA_ARCH_LIST`, value: arch, wrong: "is not a GH200's GPU architecture", accepted: "9.0a" })),
        ];
    }),
    imagePolicy(
        { name: "no-stand-ins-in-production", description: "Nothing that is made of stand-ins is pushed to a registry that others can reach." },
        (image, name) => {
            const standIns = [...Object.values(image.contexts), ...values(image, "BASE_IMAGE")].filter((from) => /(^|\/)(stand-in|sandbox)\//.test(from));
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
            // A step stands in the image's history as it is written.
            ...plaintextSecretProblems(`${name}.dockerfile`, { text: image.dockerfile }),
            ...plaintextSecretProblems(
                `${name}.dockerfile`,
                Object.fromEntries(dockerfileFacts(image.dockerfile ?? "").declared.map(({ name: of, value }) => [of, value])),
            ),
        ],
    ),
    {
        name: "built-by-docker-build",
        description: "Images are built by docker-build, whose inputs the other policies read.",
        enforcementLevel: "mandatory",
        validateResource: ({ type, name, props }, reportViolation) => {
            // Docker's own provider builds too: its Image, and an image of a Docker host that has a `build`.
            const builds = type === "docker:index/remoteImage:RemoteImage" && (known(() => props.build as object | undefined) ?? undefined) !== undefined;
            if (builds || type === "docker:index/image:Image" || type === "docker:image:Image") {
                reportViolation(problemLine({ path: name, value: type, wrong: "is built where no policy looks", accepted: "docker-build:index:Image" }));
            }
        },
    },
    pushedHere({
        name: "stages-of-this-stack",
        description: "What takes a compiled stage's place comes from a repository that this stack pushes to, and is nobody else's image.",
        problems: ({ contexts }, name, own) =>
            Object.entries(contexts)
                .filter(([context, location]) => context.startsWith("build-") && location.startsWith("docker-image://"))
                .filter(([, location]) => !own.has(repositoryOf(location.slice("docker-image://".length))))
                .map(([context, location]) => ({
                    path: `${name}.context.named.${context}`,
                    value: location,
                    wrong: "is an image that this stack does not push",
                    accepted: [...own].sort().join(", "),
                })),
    }),
    pushedHere({
        name: "caches-of-this-stack",
        description: "A build believes no cache that somebody else writes: a registry's alone, of a repository that this stack pushes to.",
        problems: ({ caches }, name, own) =>
            caches
                .filter((cache) => !own.has(repositoryOf(cache).replace(/-cache$/, "")))
                .map((cache) => ({
                    path: `${name}.cacheFrom`,
                    value: cache,
                    wrong: "is a cache that this stack does not push",
                    accepted: [...own]
                        .map((repository) => `${repository}-cache`)
                        .sort()
                        .join(", "),
                })),
    }),
];

/** A policy over the repositories that the stack's images are pushed to. */
function pushedHere({
    problems,
    ...policy
}: Pick<StackValidationPolicy, "name" | "description"> & {
    problems: (image: ImageFacts, name: string, own: ReadonlySet<string>) => Problem[];
}): StackValidationPolicy {
    return {
        ...policy,
        enforcementLevel: "mandatory",
        validateStack: ({ resources }, reportViolation) => {
            const images = resources.flatMap((resource) => {
                const facts = imageFacts(resource);
                const allTags = known(() => ({ text: JSON.stringify(resource.props.tags) })) !== undefined;
                return facts === undefined ? [] : [{ facts, allTags, name: resource.name, urn: resource.urn }];
            });
            // A preview that does not know where an image is pushed to leaves this to the update.
            if (!images.every(({ allTags, facts }) => allTags || facts.tags.length > 0)) {
                return;
            }
            const own = new Set(images.flatMap(({ facts }) => facts.tags).map(repositoryOf));
            for (const { facts, name, urn } of images) {
                problems(facts, name, own).forEach((problem) => reportViolation(problemLine(problem), urn));
            }
        },
    };
}

function repositoryOf(reference: string): string {
    const { host, repository } = normalised(reference);
    return `${host}/${repository.replace(/:[^:/]+$/, "")}`;
}

/** Images and files that the Dockerfile itself takes from elsewhere. BASE_IMAGE is base-by-digest's matter. */
function dockerfileImages({ dockerfile = "", contextNames, buildArgs }: ImageFacts, name: string): Problem[] {
    if (contextNames === undefined) {
        return [];
    }
    const { images, fetched } = dockerfileFacts(dockerfile, contextNames, buildArgs);
    return [
        ...images
            .filter((image) => !/^\$\{?BASE_IMAGE\}?$/.test(image) && !isDigestReference(image))
            .map((image) => ({ path: `${name}.dockerfile`, value: image, wrong: "is not named by digest", accepted: "REPOSITORY@sha256:DIGEST" })),
        ...fetched.map((source) => ({
            path: `${name}.dockerfile`,
            value: source,
            wrong: "is fetched by a name that may lead elsewhere tomorrow",
            accepted: "ADD --checksum=sha256:DIGEST, or a git address with #COMMIT",
        })),
    ];
}
