export { ManagedAllocator, type ManagedAllocatorArgs } from "./allocator/managedAllocator";
export type { BuilderArgs } from "./builder/connection";
export { RemoteBuilder, type RemoteBuilderArgs } from "./builder/remoteBuilder";
export { CmmImage, type CmmImageArgs } from "./image/cmmImage";
export { ImageRelease, type ImageReleaseArgs } from "./image/imageRelease";
export { LmcacheImage, type LmcacheImageArgs } from "./image/lmcacheImage";
export { BuilderPlace, CoherentMode, Gh200Node, type Gh200NodeArgs, type NodeProbeArgs, ProbeMethod } from "./node";
export { CmmPlatform, type CmmPlatformOptions } from "./platform/cmmPlatform";
export {
    type BaseImageArgs,
    type CmmPlatformArgs,
    type ImageArgs,
    type RegistryArgs,
    type SourceArgs,
    type StagesArgs,
    TritonOrigin,
} from "./platform/cmmPlatformArgs";
export {
    type AutoscalingArgs,
    LmcacheServer,
    type LmcacheServerArgs,
    type ModelShapeArgs,
    Lpddr,
    Placement,
    type RouteArgs,
    type ServingArgs,
    TaintEffect,
    type PodTemplate,
    type TolerationArgs,
    VllmServer,
    type VllmServerArgs,
    type VllmServerOptions,
    type VllmServerTransform,
} from "./serving";
export { BuildStage, type BuildStageArgs } from "./stages/buildStage";
