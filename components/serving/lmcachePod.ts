import type { types } from "@pulumi/kubernetes";
import type { Input } from "@pulumi/pulumi";
import { gpuTolerations } from "./manifests";
import type { TolerationArgs } from "./vllmServerArgs";

export interface LmcachePod {
    image: Input<string>;
    memoryMiB: number;
    cpus: number;
    imagePullSecret: string;
    runtimeClassName: string;
    gpuProduct: string;
    tolerations: TolerationArgs[];
}

/** The port that LMCache's own documentation uses. */
export const lmcachePort = 65432;

/** Where an LmcacheServer of that name is reached. */
export function lmcacheUrl(name: string, namespace: string): string {
    return `lm://${name}.${namespace}.svc:${lmcachePort}`;
}

/** A pod of the restricted Pod Security Standard that holds KV cache in its own memory. */
export function lmcachePodSpec(pod: LmcachePod): types.input.core.v1.PodSpec {
    const resources = { cpu: `${pod.cpus}`, memory: `${pod.memoryMiB}Mi` };
    return {
        automountServiceAccountToken: false,
        enableServiceLinks: false,
        ...(pod.runtimeClassName !== "" && { runtimeClassName: pod.runtimeClassName }),
        ...(pod.imagePullSecret !== "" && { imagePullSecrets: [{ name: pod.imagePullSecret }] }),
        nodeSelector: { "kubernetes.io/arch": "arm64", "nvidia.com/gpu.product": pod.gpuProduct },
        tolerations: gpuTolerations(pod.tolerations),
        securityContext: { runAsNonRoot: true, runAsUser: 2000, runAsGroup: 0, fsGroup: 0, seccompProfile: { type: "RuntimeDefault" } },
        containers: [
            {
                name: "lmcache",
                image: pod.image,
                // The image's own entry point is the multi-process server.
                command: ["lmcache_server"],
                // No other interface: what it is sent it unpickles (docs/security.md).
                args: ["$(POD_IP)", `${lmcachePort}`, "cpu"],
                env: [
                    { name: "POD_IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
                    { name: "PYTHONNOUSERSITE", value: "1" },
                ],
                ports: [{ name: "lm", containerPort: lmcachePort }],
                resources: { requests: resources, limits: resources },
                readinessProbe: { tcpSocket: { port: "lm" }, periodSeconds: 5 },
                livenessProbe: { tcpSocket: { port: "lm" }, periodSeconds: 10, failureThreshold: 6 },
                terminationMessagePolicy: "FallbackToLogsOnError",
                securityContext: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ["ALL"] } },
                volumeMounts: [
                    { name: "tmp", mountPath: "/tmp" },
                    { name: "home", mountPath: "/var/lib/lmcache" },
                ],
            },
        ],
        volumes: [
            { name: "tmp", emptyDir: {} },
            { name: "home", emptyDir: {} },
        ],
    };
}
