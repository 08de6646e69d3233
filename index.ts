// vLLM with CUDA managed memory on a GH200: say what changes and whether it is approved, build every stage on
// the GH200's own BuildKit, release the image, deploy it. What differs between stacks is in Pulumi.STACK.yaml.
import { setImmediate } from "node:timers/promises";
import { stackChange } from "./approval/stackChange";
import { loadConfig } from "./components/config/load";
import { platformArgs, platformProviders } from "./components/config/platformArgs";
import { CmmPlatform } from "./components/platform/cmmPlatform";
import { settlePlatform } from "./components/platform/cmmPlatformArgs";
import { registryHook } from "./components/platform/registryChecks";

export = async () => {
    const config = loadConfig();
    const args = platformArgs(config);
    // Whether it is an approved rollback is not known yet; the platform asks once more when it is.
    const registry = registryHook("registry", { ...settlePlatform(args), rollback: true });
    const change = await stackChange(config, registry === undefined ? [] : [registry]);
    const providers = platformProviders(config);
    // Their processes start while the platform is planned.
    await setImmediate();
    const { rollback, expectedDigests, first } = change;
    const serving = { ...args.serving, ...(change.mayBeDestroyed && { mustServe: false }) };
    const platform = new CmmPlatform("gh200", { ...args, serving, rollback, ...(expectedDigests && { expectedDigests }) }, { providers, dependsOn: first });
    change.complete(platform, { deployRef: platform.deployRef, images: platform.imageDigests });
    return {
        /** `REPOSITORY@DIGEST` that is deployed. */
        deployRef: platform.deployRef,
        /** Address of the OpenAI API inside the cluster. */
        endpoint: platform.endpoint,
        /** Published holes of what is built, a line for each version of a package. */
        knownHoles: platform.knownHoles,
        /** `REPOSITORY@DIGEST` of the standalone LMCache server. */
        lmcacheRef: platform.lmcacheRef,
        /** What the node's kubelet should be told. */
        kubeletAdvice: platform.kubeletAdvice,
        /** What the node's memory is promised to, a line each. */
        memoryPlan: platform.memoryPlan,
        /** What the node said when it was measured; empty where it was not. */
        nodeMeasured: platform.nodeMeasured,
        /** Release tag of the deployed image. */
        releaseRef: platform.releaseRef,
        /** Digest of each stage. */
        stageDigests: platform.stageDigests,
        /** The memory plan as an SVG: npm run status -- --picture FILE. Pulumi shows no output whose name starts so, and this one would fill the terminal. */
        __memoryPicture: platform.memoryPicture,
    };
};
