import type { z } from "zod";
import { gpuTolerations } from "../components/serving/manifests";
import { vllmServerSchema } from "../components/serving/vllmServerArgs";
import type { PlannedNode } from "../components/node/planNode";

/** Where the stack's own server runs, as the section gh200-vllm:serving says it. */
const podSchema = vllmServerSchema.pick({ gpuProduct: true, runtimeClassName: true, tolerations: true }).strip();
type CapacityPod = z.input<typeof podSchema>;

/**
 * A Job that runs assets/node/capacity on a GH200: how much host memory managed memory really reaches. It
 * runs under a memory limit, takes the GPU, and so runs while vLLM is scaled to zero. What it prints last
 * goes into node.provenHostMiB.
 *
 * The limit is the real LPDDR less the system's reserve: pages that the kernel charges end the Job alone.
 * Pages that it does not charge end at `most`, which with EGM on is one and a half times that, so that a
 * path into hidden memory shows without endangering the node.
 */
export function capacityJob(image: string, script: string, { plan, memory }: PlannedNode, serving: CapacityPod = {}): object {
    const limitMiB = plan.view.lpddrMiB - plan.systemReserveMiB;
    const mostMiB = memory.egmEnabled ? Math.round(limitMiB * 1.5) : limitMiB;
    const { gpuProduct, runtimeClassName, tolerations } = podSchema.parse(serving);
    const resources = { cpu: "4", memory: `${limitMiB}Mi`, "nvidia.com/gpu": "1" };
    return {
        apiVersion: "batch/v1",
        kind: "Job",
        metadata: { name: "gh200-capacity", namespace: "kube-system" },
        spec: {
            backoffLimit: 0,
            activeDeadlineSeconds: 1800,
            ttlSecondsAfterFinished: 86_400,
            template: {
                spec: {
                    restartPolicy: "Never",
                    automountServiceAccountToken: false,
                    ...(runtimeClassName !== "" && { runtimeClassName }),
                    nodeSelector: { "kubernetes.io/arch": "arm64", "nvidia.com/gpu.product": gpuProduct },
                    tolerations: gpuTolerations(tolerations),
                    securityContext: { runAsNonRoot: true, runAsUser: 2000, runAsGroup: 0, seccompProfile: { type: "RuntimeDefault" } },
                    containers: [
                        {
                            name: "capacity",
                            image,
                            command: ["python3", "-c", script, `--hbm-mib=${plan.hbmBudgetMiB}`, `--most-mib=${mostMiB}`],
                            resources: { requests: resources, limits: resources },
                            securityContext: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ["ALL"] } },
                            terminationMessagePolicy: "FallbackToLogsOnError",
                        },
                    ],
                },
            },
        },
    };
}
