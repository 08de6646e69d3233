export { Gh200Node } from "./gh200Node";
export { CoherentMode, type Gh200NodeArgs, type NodeProbeArgs, ProbeMethod } from "./gh200NodeArgs";
export { BuilderPlace } from "./memory";
