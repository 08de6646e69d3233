import { z } from "zod";
import { isDigestReference } from "../image/reference";
import { namespaceName, nodeLabelValue, objectName } from "../internal/names";
import type { SameShape } from "../internal/sameShape";
import { BuilderPlace } from "./memory";

/** How the GPU's HBM is managed; NVreg_CoherentGPUMemoryMode of the driver. */
export const CoherentMode = {
    /** The driver onlines HBM as a NUMA node; Linux and the kubelet count it as memory. */
    Numa: "numa",
    /** Coherent Driver-based Memory Management (CDMM): HBM belongs to the driver alone. */
    Driver: "driver",
} as const;
export type CoherentMode = (typeof CoherentMode)[keyof typeof CoherentMode];

/** How a node's facts are read. */
export const ProbeMethod = {
    /** ssh of this machine, with its own configuration, keys and known hosts. */
    Ssh: "ssh",
    /** A privileged Pod on the node that reads the host's files and asks for no GPU. */
    Pod: "pod",
} as const;
export type ProbeMethod = (typeof ProbeMethod)[keyof typeof ProbeMethod];

export interface Gh200NodeArgs {
    /** HBM in MiB as nvidia-smi reports it. Default: 97871, the 96 GB part's (source document). */
    hbmMiB?: number;
    /**
     * HBM in MiB that the driver keeps: `Reserved` of `nvidia-smi -q -d MEMORY`, or nvidia-smi's total less CUDA's.
     * Default: 1103, the largest seen on a GH200 (assets/vllm/managed_mem/hbm.json).
     */
    hbmReservedMiB?: number;
    /** HBM in MiB that is in use on the idle node. Default: 0. The source document's node shows 14920. */
    hbmInUseMiB?: number;
    /** LPDDR5X in GiB. Default: 480. */
    lpddrGiB?: number;
    /** LPDDR in MiB that the node holds as huge pages (Hugetlb of /proc/meminfo), which no pod of this program gets. Default: 0. */
    hugePagesMiB?: number;
    /** Whether Extended GPU Memory is on in the BIOS. Required, since no guess is safe. */
    egmEnabled: boolean;
    /** The BIOS's reserved memory in MiB. Default and only accepted value: 8192, the one that works (source document). */
    egmReservedMiB?: number;
    /** `numa` or `driver`. Required: it decides how much of `free` is real. */
    coherentMode: CoherentMode;
    /**
     * Managed memory in GiB that is wanted in all, HBM included. Default: HBM alone. What exceeds the
     * real LPDDR is shown as unproven and never promised.
     */
    managedGiB?: number;
    /**
     * Must be true where EGM hides LPDDR from Linux (profiles egm-numa and egm-driver): a person has
     * read that only what Linux still has can be promised. Default: false.
     */
    acknowledgeEgmHidesMemory?: boolean;
    /**
     * Resident memory of vLLM's processes in MiB. Default: 4096. API server and engine of vLLM 0.22.1 held 2,160 to 2,254 MiB
     * of their cgroup on an H200 in every placement (bench/pod/RESULTS.md); the rest is room for larger models, an estimate.
     */
    hostProcessMiB?: number;
    /** `/dev/shm` in MiB. Default: 1024, KServe's for one GPU. */
    shmMiB?: number;
    /** Pinned buffers in MiB. Default: 0. */
    pinnedMiB?: number;
    /** Room between the sum and the limit in MiB. Default: 512. */
    headroomMiB?: number;
    /** Memory of an LMCache server beside the pod in MiB, out of the same LPDDR. Default: 0, none. */
    lmcacheMiB?: number;
    /** Where images are built, as seen from this node: `elsewhere`, `serving-stops` or `beside-serving`. Default: `elsewhere`. */
    builderPlace?: BuilderPlace;
    /** Memory of a builder on this node in MiB. Default: 0. CmmPlatform gives the stages' builderMemoryGiB. */
    builderMiB?: number;
    /**
     * Host memory in MiB that the capacity test (`npm run node:check -- --capacity-job`) proved managed
     * memory to reach. It bounds the overflow in place of the LPDDR that Linux has. Default: none, never run.
     */
    provenHostMiB?: number;
    /**
     * Must be true where managedGiB is more than was measured: a person has read both numbers, and the
     * pod is promised the measured one. Default: false.
     */
    acknowledgeDeclaredExceedsMeasured?: boolean;
    /**
     * Measure the node and hold the declaration to it: once a day (UTC), and after another declared profile, boot, driver or coherent
     * mode. Default: none; declared facts alone.
     */
    probe?: NodeProbeArgs;
}

/** How the node's facts are read. What is measured stops an update; it never changes a manifest. */
export interface NodeProbeArgs {
    /** `ssh`: with this machine's own ssh and its configuration. `pod`: by a privileged Pod on the node. */
    method: ProbeMethod;
    /** ssh: host as ssh takes it, e.g. `root@gh200`. */
    host?: string;
    /** pod: any small image for the node's architecture with sh and chroot, by digest. */
    image?: string;
    /** pod: Secret in its namespace with the credentials of the image. Default: none. */
    imagePullSecret?: string;
    /** pod: value of the node label `nvidia.com/gpu.product`. Default: `NVIDIA-GH200-480GB`; CmmPlatform gives serving.gpuProduct. */
    gpuProduct?: string;
    /** pod: name of the node. Default: any node of the product. */
    nodeName?: string;
    /** pod: namespace that allows privileged pods. Default: `kube-system`. */
    namespace?: string;
    /** pod: RuntimeClass. Default: none; the Pod needs no GPU. */
    runtimeClassName?: string;
    /** A number to raise when the node is to be measured once more than it is by itself. Default: 1. */
    run?: number;
}

const imageByDigest = z.string().refine(isDigestReference, { error: "is no image by digest; accepted: REPOSITORY@sha256:DIGEST" });

const probeSchema = z
    .strictObject({
        method: z.enum(ProbeMethod, { error: "accepted: ssh or pod" }).meta({ description: "How the node's facts are read." }),
        // A leading dash would be an option of ssh.
        host: z
            .string()
            .regex(/^[A-Za-z0-9_][A-Za-z0-9_.@:-]*$/, { error: "is no host; accepted: NAME or USER@NAME" })
            .optional()
            .meta({ description: "ssh: host, as ssh takes it." }),
        image: imageByDigest.optional().meta({ description: "pod: any small image with sh and chroot, by digest." }),
        imagePullSecret: objectName.optional().meta({ description: "pod: Secret with the image's credentials." }),
        nodeName: objectName.optional().meta({ description: "pod: name of the node; any node of the product where absent." }),
        namespace: namespaceName.default("kube-system").meta({ description: "pod: namespace that allows privileged pods." }),
        gpuProduct: nodeLabelValue.default("NVIDIA-GH200-480GB").meta({ description: "pod: node label nvidia.com/gpu.product." }),
        runtimeClassName: objectName.optional().meta({ description: "pod: RuntimeClass; none is needed for the facts." }),
        run: z.int().positive().default(1).meta({ description: "Raise it to measure again." }),
    })
    .refine((probe) => probe.method !== "ssh" || probe.host !== undefined, { path: ["host"], error: "is missing; accepted: NAME or USER@NAME, for method ssh" })
    .refine((probe) => probe.method !== "pod" || probe.image !== undefined, {
        path: ["image"],
        error: "is missing; accepted: REPOSITORY@sha256:DIGEST, for method pod",
    });

const mib = z.int({ error: "is no whole number of MiB" }).nonnegative({ error: "is negative" });

export const gh200NodeSchema = z.strictObject({
    hbmMiB: mib.default(97_871).meta({ description: "HBM as nvidia-smi reports it.", unit: "MiB", source: "source document" }),
    hbmReservedMiB: mib.optional().meta({
        description: "HBM that the driver keeps, Reserved of nvidia-smi -q; 1103 where absent.",
        unit: "MiB",
        source: "assets/vllm/managed_mem/hbm.json",
    }),
    hbmInUseMiB: mib.default(0).meta({ description: "HBM in use on the idle node.", unit: "MiB" }),
    lpddrGiB: z.number().positive().default(480).meta({ description: "LPDDR5X of the node.", unit: "GiB" }),
    hugePagesMiB: mib.default(0).meta({ description: "LPDDR that the node holds as huge pages, Hugetlb of /proc/meminfo.", unit: "MiB" }),
    egmEnabled: z
        .boolean({ error: "accepted: true or false; Extended GPU Memory in the BIOS" })
        .meta({ description: "Whether Extended GPU Memory is on in the BIOS." }),
    egmReservedMiB: z
        .number()
        .refine((value) => value === 8192, { error: "is refused; accepted: 8192, the only reserved value that works" })
        .default(8192)
        .meta({ description: "The BIOS's reserved memory.", unit: "MiB", source: "source document" }),
    coherentMode: z.enum(CoherentMode, { error: "accepted: numa or driver; see /proc/driver/nvidia/params" }).meta({ description: "How HBM is managed." }),
    managedGiB: z.number().positive().optional().meta({ description: "Managed memory wanted in all, HBM included.", unit: "GiB" }),
    acknowledgeEgmHidesMemory: z.boolean().default(false).meta({ description: "A person has read that EGM hides LPDDR from Linux." }),
    hostProcessMiB: mib
        .default(4096)
        .meta({ description: "Resident memory of vLLM's processes.", unit: "MiB", source: "2.2 GiB measured on an H200 (bench/pod/RESULTS.md), and room" }),
    shmMiB: mib.default(1024).meta({ description: "Size of /dev/shm.", unit: "MiB", source: "KServe's default for one GPU" }),
    pinnedMiB: mib.default(0).meta({ description: "Pinned buffers.", unit: "MiB" }),
    headroomMiB: mib.default(512).meta({ description: "Room between the sum and the limit.", unit: "MiB" }),
    lmcacheMiB: mib.default(0).meta({ description: "An LMCache server beside the pod.", unit: "MiB" }),
    builderPlace: z
        .enum(BuilderPlace, { error: "accepted: elsewhere, serving-stops or beside-serving" })
        .default(BuilderPlace.Elsewhere)
        .meta({ description: "Where images are built, as seen from this node." }),
    builderMiB: mib.default(0).meta({ description: "Memory of a builder on this node.", unit: "MiB" }),
    provenHostMiB: mib.optional().meta({
        description: "Host memory that the capacity test proved managed memory to reach.",
        unit: "MiB",
        source: "npm run node:check -- --capacity-job",
    }),
    acknowledgeDeclaredExceedsMeasured: z.boolean().default(false).meta({ description: "A person has read that managedGiB is more than was measured." }),
    probe: probeSchema.optional(),
});
export type ResolvedGh200Node = z.output<typeof gh200NodeSchema>;
type Gh200NodeInput = z.input<typeof gh200NodeSchema>;
const shapesAgree: SameShape<Gh200NodeArgs, Gh200NodeInput> = true;
void shapesAgree;
