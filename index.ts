// vLLM with CUDA managed memory on a GH200: build every stage on the GH200's own BuildKit, release the
// image, deploy it. Everything that differs between stacks is in Pulumi.STACK.yaml.
import { loadConfig } from "./components/config/load";
import { platformArgs, platformProviders } from "./components/config/platformArgs";
import { CmmPlatform } from "./components/platform/cmmPlatform";

const config = loadConfig();
const platform = new CmmPlatform("gh200", platformArgs(config), { providers: platformProviders(config) });

/** `REPOSITORY@DIGEST` that is deployed. */
export const deployRef = platform.deployRef;
/** Address of the OpenAI API inside the cluster. */
export const endpoint = platform.endpoint;
/** `REPOSITORY@DIGEST` of the standalone LMCache server. */
export const lmcacheRef = platform.lmcacheRef;
/** What the node's kubelet should be told. */
export const kubeletAdvice = platform.kubeletAdvice;
/** The memory plan as an SVG. */
export const memoryPicture = platform.memoryPicture;
/** What the node's memory is promised to. */
export const memoryPlan = platform.memoryPlan;
/** What the node said when it was measured; empty where it was not. */
export const nodeMeasured = platform.nodeMeasured;
/** Release tag of the deployed image. */
export const releaseRef = platform.releaseRef;
/** Digest of each stage. */
export const stageDigests = platform.stageDigests;
