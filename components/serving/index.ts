export { LmcacheServer, type LmcacheServerArgs } from "./lmcacheServer";
export { VllmServer } from "./vllmServer";
export {
    type AutoscalingArgs,
    type ModelShapeArgs,
    Placement,
    type RouteArgs,
    type ServingArgs,
    TaintEffect,
    type TolerationArgs,
    type VllmServerArgs,
} from "./vllmServerArgs";
