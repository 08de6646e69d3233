import * as path from "node:path";
import * as pulumi from "@pulumi/pulumi";
import type { BuilderArgs } from "../builder/connection";
import { assetsFolder } from "../internal/assets";
import { stageContexts } from "../internal/stageContexts";
import { buildImage } from "../internal/image";

export interface LmcacheImageArgs {
    /** The builder; a RemoteBuilder can be passed as it is. */
    builder: BuilderArgs;
    /** Image that LMCache is installed into, by digest; the same as the vLLM image's. */
    baseImage: pulumi.Input<string>;
    /** Image of the stage `build-lmcache`, as `REPOSITORY@DIGEST`: its wheel is used, not built again. */
    lmcacheRef: pulumi.Input<string>;
    /** Repository that the image is pushed to, without tag. */
    repository: pulumi.Input<string>;
    /** Folder with the Dockerfile, relative to the program. Default: the package's `assets/lmcache`, or the program's own where there is one. */
    context?: string;
    /** Further named contexts, e.g. the Python wheelhouse. Default: none. */
    namedContexts?: Record<string, pulumi.Input<string>>;
    /** Build arguments. Those that the image does not declare are left out. Default: none. */
    buildArgs?: Record<string, pulumi.Input<string>>;
}

/** The standalone LMCache server's image: the base and the wheel of the stage build-lmcache. */
export class LmcacheImage extends pulumi.ComponentResource {
    /** `sha256:...` of the image. */
    public readonly digest!: pulumi.Output<string>;
    /** `REPOSITORY@DIGEST` of the image. */
    public readonly imageRef!: pulumi.Output<string>;

    constructor(name: string, args: LmcacheImageArgs, opts?: pulumi.ComponentResourceOptions) {
        super("gh200-vllm:index:LmcacheImage", name, {}, opts);
        const context = args.context ?? assetsFolder("lmcache");
        const built = buildImage(
            name,
            {
                builder: args.builder,
                dockerfile: path.join(context, "Dockerfile"),
                context,
                target: "lmcache",
                namedContexts: { ...args.namedContexts, ...stageContexts({ "build-lmcache": args.lmcacheRef }) },
                buildArgs: { ...args.buildArgs, BASE_IMAGE: args.baseImage },
                repository: args.repository,
                registryCache: false,
            },
            { parent: this },
        );
        const outputs = { digest: built.digest, imageRef: built.reference };
        Object.assign(this, outputs);
        this.registerOutputs(outputs);
    }
}
