import { Deployment } from "@pulumi/kubernetes/apps/v1";
import { Service } from "@pulumi/kubernetes/core/v1";
import { NetworkPolicy } from "@pulumi/kubernetes/networking/v1";
import * as pulumi from "@pulumi/pulumi";
import { z } from "zod";
import { isDigestReference } from "../image/reference";
import { namespaceName, nodeLabelValue, optionalObjectName } from "../internal/names";
import { resolve } from "../internal/resolve";
import type { SameShape } from "../internal/sameShape";
import { type TolerationArgs, tolerationSchema } from "./vllmServerArgs";
import { lmcachePodSpec, lmcachePort, lmcacheUrl } from "./lmcachePod";
import { conflictReport, owned } from "./ownership";
import { everyReplicaServes } from "./standing";

export interface LmcacheServerArgs {
    /** Standalone LMCache image by digest, of an LmcacheImage. */
    image: pulumi.Input<string>;
    /** Memory request and limit in MiB, from a Gh200Node's lmcacheMiB: it is LPDDR that vLLM is not promised. */
    memoryMiB: pulumi.Input<number>;
    /** Namespace of the VllmServer, which makes it. */
    namespace: pulumi.Input<string>;
    /** Secret with the registry's credentials in that namespace. Default: none. */
    imagePullSecret?: pulumi.Input<string>;
    /** Whole CPUs. Default: 4; it copies bytes between sockets. */
    cpus?: pulumi.Input<number>;
    /** RuntimeClass. Default: none; it needs no GPU. */
    runtimeClassName?: pulumi.Input<string>;
    /** Value of the node label `nvidia.com/gpu.product`: it lies on a GH200 for its LPDDR. Default: `NVIDIA-GH200-480GB`. */
    gpuProduct?: pulumi.Input<string>;
    /** Taints that the pod tolerates besides the GPU's. Default: none. */
    tolerations?: pulumi.Input<pulumi.Input<TolerationArgs>[]>;
}

export const lmcacheServerSchema = z.strictObject({
    image: z.string().refine(isDigestReference, { error: "is no image by digest; accepted: REPOSITORY@sha256:DIGEST" }),
    memoryMiB: z.int().min(1024, { error: "is too small; accepted: 1024 or more, the process itself takes several hundred MiB" }),
    namespace: namespaceName,
    imagePullSecret: optionalObjectName.default(""),
    cpus: z.int().positive().default(4),
    runtimeClassName: optionalObjectName.default(""),
    gpuProduct: nodeLabelValue.default("NVIDIA-GH200-480GB"),
    tolerations: z.array(tolerationSchema).default([]),
});
const shapesAgree: SameShape<pulumi.Unwrap<LmcacheServerArgs>, z.input<typeof lmcacheServerSchema>> = true;
void shapesAgree;

/**
 * LMCache's server that replicas share KV cache through, over `lm://` (LMCache 0.4.4, v1/server).
 *
 * The newer multi-process server would register the GPU's memory, which managed memory does not allow. This
 * one has no eviction: at its memory limit the kernel ends it, and it starts again empty. vLLM goes on
 * meanwhile, since a cache that does not answer is a miss.
 */
export class LmcacheServer extends pulumi.ComponentResource {
    /** `lm://HOST:PORT`, for VllmServer's lmcacheUrl. */
    public readonly url!: pulumi.Output<string>;

    constructor(name: string, args: LmcacheServerArgs, opts?: pulumi.ComponentResourceOptions) {
        super("gh200-vllm:index:LmcacheServer", name, {}, opts);
        const { image, namespace, ...known } = resolve("lmcache", lmcacheServerSchema, args);
        const labels = { "app.kubernetes.io/name": "lmcache", "app.kubernetes.io/instance": name };
        const metadata = { name, namespace, labels, annotations: owned(this) };
        const child = { parent: this, hooks: { onError: [conflictReport(this)] } };
        const deployment = new Deployment(
            name,
            {
                metadata: { ...metadata, annotations: { ...metadata.annotations, "pulumi.com/waitFor": everyReplicaServes } },
                spec: {
                    replicas: 1,
                    // Two of them at once would be promised the same LPDDR.
                    strategy: { type: "Recreate" },
                    selector: { matchLabels: labels },
                    template: { metadata: { labels }, spec: pulumi.output(known).apply((values) => lmcachePodSpec({ ...values, image })) },
                },
            },
            { ...child, deleteBeforeReplace: true },
        );
        new Service(
            name,
            { metadata, spec: { selector: labels, ports: [{ name: "lm", port: lmcachePort, targetPort: "lm" }] } },
            { ...child, dependsOn: [deployment] },
        );
        new NetworkPolicy(
            name,
            {
                metadata,
                spec: {
                    podSelector: { matchLabels: labels },
                    policyTypes: ["Ingress", "Egress"],
                    ingress: [
                        { from: [{ podSelector: { matchLabels: { "app.kubernetes.io/name": "vllm" } } }], ports: [{ port: lmcachePort, protocol: "TCP" }] },
                    ],
                    egress: [],
                },
            },
            child,
        );
        const outputs = { url: namespace.apply((of) => lmcacheUrl(name, of)) };
        Object.assign(this, outputs);
        this.registerOutputs(outputs);
    }
}
