import * as dockerBuild from "@pulumi/docker-build";
import * as pulumi from "@pulumi/pulumi";
import { builderHook } from "../builder/builderHook";
import type { BuilderArgs } from "../builder/connection";
import { materialise } from "../internal/contexts";
import { refuse } from "../internal/errors";
import { hookName } from "../internal/hookName";
import { reproducibleExport } from "../internal/image";
import { lookInPreview } from "./collected";
import { imageLabels, type RegistryCredentials, RegistryError } from "./registryClient";
import { standInProblems } from "./standIn";
import { dirtyProblems, versionProblems } from "./versions";

export interface ImageReleaseArgs {
    /** The builder; a RemoteBuilder can be passed as it is. It pushes, without building anything. */
    builder: BuilderArgs;
    /** Verified image, `REPOSITORY@DIGEST`. */
    imageRef: pulumi.Input<string>;
    /** Digest of that image, which names the tag that never moves. */
    digest: pulumi.Input<string>;
    /** Repository of the release, e.g. `atl.vultrcr.com/vllm/gh200-vllm-cmm`. */
    repository: pulumi.Input<string>;
    /** Release tag, e.g. `cmm-cmm`. It moves with every release. */
    tag: pulumi.Input<string>;
    /** Seconds since 1970 that the image was built with; another value would give another digest. */
    sourceDateEpoch: pulumi.Input<string>;
    /** Whether versions may be lower than those of the image that has the tag now: an approved rollback. Default: false. */
    allowDowngrade?: boolean;
    /** Registry user who may read the image's labels. Default: none. */
    username?: pulumi.Input<string>;
    /** That user's password; secret. Default: none. */
    password?: pulumi.Input<string>;
}

/**
 * The push: the verified image under its release name. `REPOSITORY:TAG` and a tag that never moves,
 * `TAG-` and 12 digits of the verified digest, both name the manifest that is deployed.
 *
 * docker-build's Index would wrap the manifest in a new one; an image that is built FROM another and
 * nothing else has the same configuration and layers (docs/decisions/0004-release.md).
 */
export class ImageRelease extends pulumi.ComponentResource {
    /** `REPOSITORY:TAG`. */
    public readonly releaseRef!: pulumi.Output<string>;
    /** `REPOSITORY:TAG-...`, which never moves. */
    public readonly fixedRef!: pulumi.Output<string>;
    /** `REPOSITORY@DIGEST`: what is deployed. */
    public readonly deployRef!: pulumi.Output<string>;

    constructor(name: string, args: ImageReleaseArgs, opts?: pulumi.ComponentResourceOptions) {
        super("gh200-vllm:index:ImageRelease", name, {}, opts);
        const hooks = [labelsHook(this, args), builderHook(this, name, args.builder)];
        const releaseRef = pulumi.interpolate`${args.repository}:${args.tag}`;
        const fixedRef = pulumi.interpolate`${releaseRef}-${pulumi.output(args.digest).apply(shortDigest)}`;
        const image = new dockerBuild.Image(
            name,
            {
                builder: { name: args.builder.name },
                dockerfile: { inline: "FROM release\n" },
                context: {
                    location: materialise(".", []),
                    named: { release: { location: pulumi.interpolate`docker-image://${args.imageRef}` } },
                },
                buildArgs: { SOURCE_DATE_EPOCH: args.sourceDateEpoch },
                platforms: [pulumi.output(args.builder.platform) as pulumi.Output<dockerBuild.Platform>],
                tags: [releaseRef, fixedRef],
                exports: [{ raw: reproducibleExport }],
                push: false,
                buildOnPreview: false,
            },
            { parent: this, retainOnDelete: true, ignoreChanges: ["builder.name"], hooks: { beforeCreate: hooks, beforeUpdate: hooks } },
        );
        const deployRef = pulumi.interpolate`${args.repository}@${image.digest}`;
        lookInPreview(this, deployRef, image.registries);
        const outputs = { releaseRef, fixedRef, deployRef };
        Object.assign(this, outputs);
        this.registerOutputs(outputs);
    }
}

/** What the image's own labels say decides: stand-ins, uncommitted changes and downgrades get no release name. */
function labelsHook(component: pulumi.Resource, args: ImageReleaseArgs): pulumi.ResourceHook {
    const inputs = pulumi.all([args.imageRef, args.repository, args.tag, args.username, args.password]);
    const resolved = new Promise<[string, string, string, string | undefined, string | undefined]>((done) => void inputs.apply(done));
    return new pulumi.ResourceHook(hookName(component, "labels"), async () => {
        const [imageRef, repository, tag, username, password] = await resolved;
        const credentials = username === undefined ? undefined : { username, password: password ?? "" };
        const labels = await imageLabels(imageRef, credentials);
        const released = args.allowDowngrade ? undefined : await releasedLabels(`${repository}:${tag}`, credentials);
        refuse([...standInProblems(repository, labels), ...dirtyProblems(labels), ...versionProblems(labels, released)]);
    });
}

/** Labels of the image that has a release's name; undefined where none has. */
export async function releasedLabels(reference: string, credentials: RegistryCredentials | undefined): Promise<Record<string, string> | undefined> {
    try {
        return await imageLabels(reference, credentials);
    } catch (error) {
        if (error instanceof RegistryError && error.status === 404) {
            return undefined;
        }
        throw error;
    }
}

function shortDigest(digest: string): string {
    return digest.replace(/^sha256:/, "").slice(0, 12);
}
