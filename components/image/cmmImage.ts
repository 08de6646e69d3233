import * as path from "node:path";
import * as pulumi from "@pulumi/pulumi";
import type { BuilderArgs } from "../builder/connection";
import { assetsFolder } from "../internal/assets";
import { stageContexts } from "../internal/stageContexts";
import { buildImage, verifyImage } from "../internal/image";

export interface CmmImageArgs {
    /** The builder; a RemoteBuilder can be passed as it is. */
    builder: BuilderArgs;
    /** Image that everything is installed into, by digest. */
    baseImage: pulumi.Input<string>;
    /** Repository that the image is pushed to, without tag. */
    repository: pulumi.Input<string>;
    /**
     * Images of the stages by their Dockerfile names (`build-vllm`, `build-managed-alloc`, ...), as
     * `REPOSITORY@DIGEST`. Each takes the place of the stage of its name.
     */
    stageRefs: Record<string, pulumi.Input<string>>;
    /** Folder with the Dockerfile, relative to the program. Default: the package's `assets/vllm`, or the program's own where there is one. */
    context?: string;
    /** Further named contexts, e.g. the Python wheelhouse. Default: none. */
    namedContexts?: Record<string, pulumi.Input<string>>;
    /** Build arguments. Those that the image does not declare are left out. Default: none. */
    buildArgs?: Record<string, pulumi.Input<string>>;
}

/**
 * The image itself: the stages' wheels and the allocator installed into the base, then checked as a
 * whole by running the checks of the Dockerfile's `verify` stage in exactly the pushed digest.
 */
export class CmmImage extends pulumi.ComponentResource {
    /** `sha256:...` of the image. */
    public readonly digest!: pulumi.Output<string>;
    /** `REPOSITORY@DIGEST`, known once the image has passed its verification. */
    public readonly imageRef!: pulumi.Output<string>;

    constructor(name: string, args: CmmImageArgs, opts?: pulumi.ComponentResourceOptions) {
        super("gh200-vllm:index:CmmImage", name, {}, opts);
        const context = args.context ?? assetsFolder("vllm");
        const spec = {
            builder: args.builder,
            dockerfile: path.join(context, "Dockerfile"),
            context,
            buildArgs: { ...args.buildArgs, BASE_IMAGE: args.baseImage },
            repository: args.repository,
            registryCache: false,
        };
        const built = buildImage(
            name,
            { ...spec, target: "final", namedContexts: { ...args.namedContexts, ...stageContexts(args.stageRefs) } },
            { parent: this },
        );
        const verification = verifyImage(
            `${name}-verify`,
            { ...spec, target: "verify", namedContexts: { cmm: pulumi.interpolate`docker-image://${built.reference}` } },
            { parent: this },
        );
        const outputs = {
            digest: built.digest,
            // Whoever uses the reference waits for the verification.
            imageRef: pulumi.all([built.reference, verification.contextHash]).apply(([reference]) => reference),
        };
        Object.assign(this, outputs);
        this.registerOutputs(outputs);
    }
}
