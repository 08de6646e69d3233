import type { types } from "@pulumi/kubernetes";

export interface FactsPod {
    /** Text of assets/node/facts. */
    script: string;
    image: string;
    imagePullSecret?: string | undefined;
    nodeName?: string | undefined;
    gpuProduct: string;
    runtimeClassName?: string | undefined;
}

/**
 * A Pod that runs assets/node/facts on its host and leaves what it says as its termination message, which
 * is read back from the Pod's status: no token, no further image.
 *
 * It is the one exception to the pod rules: privileged and root, since nvidia-smi needs the GPU's device
 * files, and dmidecode and the addresses of /proc/iomem need root. It asks for no GPU, so that it also runs
 * while vLLM holds it, and it writes nothing.
 */
export function factsPodSpec(pod: FactsPod): types.input.core.v1.PodSpec {
    const resources = { cpu: "200m", memory: "128Mi" };
    return {
        automountServiceAccountToken: false,
        enableServiceLinks: false,
        restartPolicy: "Never",
        // Stuck on the node, it says so by failing.
        activeDeadlineSeconds: 120,
        ...(pod.runtimeClassName !== undefined && { runtimeClassName: pod.runtimeClassName }),
        ...(pod.imagePullSecret !== undefined && { imagePullSecrets: [{ name: pod.imagePullSecret }] }),
        nodeSelector: pod.nodeName === undefined ? { "nvidia.com/gpu.product": pod.gpuProduct } : { "kubernetes.io/hostname": pod.nodeName },
        tolerations: [{ operator: "Exists" }],
        containers: [
            {
                name: "facts",
                image: pod.image,
                command: ["sh", "-c", 'exec chroot /host /bin/sh -c "$FACTS" >/dev/termination-log'],
                env: [{ name: "FACTS", value: pod.script }],
                resources: { requests: resources, limits: resources },
                securityContext: { privileged: true, runAsUser: 0, readOnlyRootFilesystem: true },
                terminationMessagePolicy: "FallbackToLogsOnError",
                volumeMounts: [{ name: "host", mountPath: "/host", readOnly: true }],
            },
        ],
        volumes: [{ name: "host", hostPath: { path: "/", type: "Directory" } }],
    };
}
