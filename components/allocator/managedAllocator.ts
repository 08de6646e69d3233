import * as path from "node:path";
import * as pulumi from "@pulumi/pulumi";
import type { BuilderArgs } from "../builder/connection";
import { assetsFolder } from "../internal/assets";
import { buildImage } from "../internal/image";

export interface ManagedAllocatorArgs {
    /** The builder; a RemoteBuilder can be passed as it is. */
    builder: BuilderArgs;
    /** Image whose nvcc compiles the source, by digest. */
    baseImage: pulumi.Input<string>;
    /** Repository that the compiled library is pushed to, without tag. */
    repository: pulumi.Input<string>;
    /**
     * Folder with the Dockerfile and the CUDA source, relative to the program. Default: the package's `assets/vllm`, or the program's own where there is one.
     */
    context?: string;
    /** Stage of that Dockerfile that leaves `/managed_alloc.so`. Default: `build-managed-alloc`. */
    target?: string;
    /** GPU architecture as nvcc's `sm_` suffix, `9.0a` for Hopper. Default: `9.0a`. */
    cudaArchList?: pulumi.Input<string>;
    /** Further build arguments of the target. Those that it does not declare are left out. Default: none. */
    buildArgs?: Record<string, pulumi.Input<string>>;
}

/**
 * The CUDA compile step: nvcc of the base image compiles the allocator, and the same build checks the
 * library (ELF machine, exported symbols, code for the architecture, CUDA runtime, nothing undefined).
 */
export class ManagedAllocator extends pulumi.ComponentResource {
    /** `sha256:...` of the image that holds `/managed_alloc.so`. */
    public readonly digest!: pulumi.Output<string>;
    /** `REPOSITORY@DIGEST` of that image. */
    public readonly imageRef!: pulumi.Output<string>;
    /** Hash over everything that was given to the compile, 12 hex digits. */
    public readonly contentHash!: pulumi.Output<string>;

    constructor(name: string, args: ManagedAllocatorArgs, opts?: pulumi.ComponentResourceOptions) {
        super("gh200-vllm:index:ManagedAllocator", name, {}, opts);
        const context = args.context ?? assetsFolder("vllm");
        const built = buildImage(
            name,
            {
                builder: args.builder,
                dockerfile: path.join(context, "Dockerfile"),
                context,
                target: args.target ?? "build-managed-alloc",
                namedContexts: {},
                buildArgs: { ...args.buildArgs, BASE_IMAGE: args.baseImage, CUDA_ARCH_LIST: args.cudaArchList ?? "9.0a" },
                repository: args.repository,
                registryCache: false,
            },
            { parent: this },
        );
        const outputs = { digest: built.digest, imageRef: built.reference, contentHash: built.contentHash };
        Object.assign(this, outputs);
        this.registerOutputs(outputs);
    }
}
