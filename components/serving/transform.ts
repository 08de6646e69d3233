import type { types } from "@pulumi/kubernetes";
import type * as pulumi from "@pulumi/pulumi";
import type { VllmPod } from "./manifests";

type Container = types.input.core.v1.Container;

/** The server's own container, always the first, with what it has always. */
interface ServerContainer extends Container {
    args: string[];
    env: types.input.core.v1.EnvVar[];
    volumeMounts: types.input.core.v1.VolumeMount[];
}

/** A pod as its workload makes it: labels, annotations and spec. */
export interface PodTemplate {
    metadata: { labels: Record<string, string>; annotations: Record<string, string> };
    spec: types.input.core.v1.PodSpec & { containers: [ServerContainer, ...Container[]]; volumes: types.input.core.v1.Volume[] };
}

/** A workload or Service as it is registered. */
interface Manifest {
    metadata: { name: string; labels: Record<string, string>; annotations: Record<string, pulumi.Input<string>> };
    spec: Record<string, unknown>;
}

/**
 * The escape hatch, in the manner of sst's `transform`: functions that change what is made, in place, after every input has done its
 * part. What they make of it is not checked against the memory plan; policies see the result, and `pulumi preview` shows it.
 */
export interface VllmServerTransform {
    /** The pod: env, sidecars, init containers, volumes, probes, service account, annotations. `values` is what it was made from. */
    pod?: (template: PodTemplate, values: Omit<VllmPod, "image">) => void;
    /** The Deployment or LeaderWorkerSet, and the options that it is registered with. */
    workload?: (manifest: Manifest, options: pulumi.CustomResourceOptions) => void;
    /** The Service, and the options that it is registered with. */
    service?: (manifest: Manifest, options: pulumi.CustomResourceOptions) => void;
}

/** What a VllmServer takes beside its inputs. Functions are TypeScript's alone: other languages have Pulumi's own `transforms`. */
export interface VllmServerOptions extends pulumi.ComponentResourceOptions {
    /** Changes what is made. Default: nothing. */
    transform?: VllmServerTransform;
}

/** A pod's template after its transform. */
export function transformed(
    template: { metadata: { labels: Record<string, string> }; spec: types.input.core.v1.PodSpec },
    values: Omit<VllmPod, "image">,
    transform: VllmServerTransform["pod"],
): object {
    if (transform === undefined) {
        return template;
    }
    const changed = { ...template, metadata: { ...template.metadata, annotations: {} } } as PodTemplate;
    transform(changed, values);
    return changed;
}
