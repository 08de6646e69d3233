export { LmcacheServer, type LmcacheServerArgs } from "./lmcacheServer";
export { type AttentionLayersArgs, AttentionKind, type ModelShapeArgs } from "./modelShapeArgs";
export { type PodTemplate, type VllmServerOptions, type VllmServerTransform } from "./transform";
export { VllmServer } from "./vllmServer";
export {
    type AutoscalingArgs,
    Lpddr,
    Placement,
    type RouteArgs,
    type ServingArgs,
    TaintEffect,
    type TolerationArgs,
    type VllmServerArgs,
} from "./vllmServerArgs";
