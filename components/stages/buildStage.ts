import * as pulumi from "@pulumi/pulumi";
import type { BuilderArgs } from "../builder/connection";
import type { GitTokens } from "../internal/gitAuth";
import { buildImage } from "../internal/image";

export interface BuildStageArgs {
    /** The builder; a RemoteBuilder can be passed as it is. */
    builder: BuilderArgs;
    /** Path of the Dockerfile, relative to the program. Only the part that `target` needs is an input. */
    dockerfile: string;
    /** Stage of the Dockerfile to build. */
    target: string;
    /** Repository that the stage's image is pushed to by digest, without tag. */
    repository: pulumi.Input<string>;
    /** Folder that the Dockerfile's COPY and ADD read from, relative to the program. Default: the Dockerfile's. */
    context?: string;
    /**
     * Named contexts by name: a folder relative to the program, `https://REPOSITORY.git#COMMIT`, or
     * `docker-image://REPOSITORY@DIGEST`. A name that is also a stage of the Dockerfile replaces that stage. Default: none.
     */
    namedContexts?: Record<string, pulumi.Input<string>>;
    /** Build arguments. Those that `target` does not declare are left out. Default: none. */
    buildArgs?: Record<string, pulumi.Input<string>>;
    /** Access tokens of private git contexts, by host (`HOST` or `HOST:PORT`); secret. Default: none. */
    gitTokens?: pulumi.Input<GitTokens>;
    /** What is said when the build starts, e.g. which stage of how many. Default: nothing. */
    announcement?: string;
    /**
     * Keep BuildKit's cache of every step in a repository of its own, `REPOSITORY-cache:TARGET`. Whoever may write there decides what a build
     * on a fresh builder takes for built; so nobody but the builder should, or this is false. Default: true.
     */
    registryCache?: boolean;
}

/**
 * One stage of a multi-stage Dockerfile as a resource of its own: built on the remote builder, pushed
 * by digest. A stage that fails costs only itself, and the preview names the stages that change.
 */
export class BuildStage extends pulumi.ComponentResource {
    /** `sha256:...` of the stage's image. */
    public readonly digest!: pulumi.Output<string>;
    /** `REPOSITORY@DIGEST` of the stage's image, to build on or to take files from. */
    public readonly imageRef!: pulumi.Output<string>;
    /** Hash over everything that was given to the build, 12 hex digits. */
    public readonly contentHash!: pulumi.Output<string>;

    constructor(name: string, args: BuildStageArgs, opts?: pulumi.ComponentResourceOptions) {
        super("gh200-vllm:index:BuildStage", name, {}, opts);
        const built = buildImage(
            name,
            {
                builder: args.builder,
                dockerfile: args.dockerfile,
                context: args.context ?? args.dockerfile.replace(/\/?[^/]+$/, "") ?? ".",
                target: args.target,
                namedContexts: args.namedContexts ?? {},
                buildArgs: args.buildArgs ?? {},
                gitTokens: args.gitTokens,
                announcement: args.announcement,
                repository: args.repository,
                registryCache: args.registryCache ?? true,
            },
            { parent: this },
        );
        const outputs = { digest: built.digest, imageRef: built.reference, contentHash: built.contentHash };
        Object.assign(this, outputs);
        this.registerOutputs(outputs);
    }
}
