export { LmcacheServer, type LmcacheServerArgs } from "./lmcacheServer";
export { type AttentionLayersArgs, AttentionKind, type ModelShapeArgs } from "./modelShapeArgs";
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
