import * as path from "node:path";
import { repositoryRoot } from "./stackFile";

/**
 * What the tools of a GH200 print, for the parsers. The figures of `sourceDocument` are the source document's (97,871 and
 * 14,920 MiB, 10 nodes, 8,080 and 97,280 MB, 102 GiB); the lines around them are as those tools print them. `egmOff` has
 * those of NVIDIA's kernel log (490,037 and 97,280 MB, 9 nodes; Linux 63db8170bf34).
 */
const cpus = Array.from({ length: 72 }, (_, index) => index).join(" ");

const emptyNodes = (ids: number[]) => ids.flatMap((id) => [`node ${id} cpus:`, `node ${id} size: 0 MB`, `node ${id} free: 0 MB`]);

const smi = `Tue Apr  7 10:00:00 2026
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 595.45.04              Driver Version: 595.45.04      CUDA Version: 13.2     |
|-----------------------------------------+------------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |
| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |
|=========================================+========================+======================|
|   0  NVIDIA GH200 480GB             On  |   00000009:01:00.0 Off |                    0 |
| N/A   31C    P0             75W /  900W |   14920MiB /  97871MiB |      0%      Default |
+-----------------------------------------+------------------------+----------------------+
| Processes:                                                                              |
|  No running processes found                                                             |
+-----------------------------------------------------------------------------------------+
`;

export const sourceDocument: Record<string, string> = {
    "nvidia-smi": smi,
    "compute apps": "none\n",
    "numactl --hardware": [
        "available: 10 nodes (0-9)",
        `node 0 cpus: ${cpus}`,
        "node 0 size: 8080 MB",
        "node 0 free: 3021 MB",
        "node 1 cpus:",
        "node 1 size: 0 MB",
        "node 1 free: 0 MB",
        "node 2 cpus:",
        "node 2 size: 97280 MB",
        "node 2 free: 82015 MB",
        ...emptyNodes([3, 4, 5, 6, 7, 8, 9]),
        "node distances:",
        "node   0   1   2",
        "  0:  10  80  80",
        "",
    ].join("\n"),
    free: "               total        used        free      shared  buff/cache   available\nMem:           102Gi        17Gi        70Gi       8.0Mi        15Gi        84Gi\nSwap:             0B          0B          0B\n",
    "/proc/iomem":
        "80000000-fffeffff : System RAM\n  82000000-8460ffff : Kernel code\n100000000-277ffffff : System RAM\n4200000000-59bfffffff : System RAM (NVIDIA)\n",
    "/proc/driver/nvidia/params": 'ResmanDebugLevel: 4294967295\nCoherentGPUMemoryMode: ""\nEnableUserNUMAManagement: 1\n',
    dmidecode: "Handle 0x0013, DMI type 17, 100 bytes\nMemory Device\n\tTotal Width: 544 bits\n\tSize: 480 GB\n\tForm Factor: Die\n\tVolatile Size: 480 GB\n",
    "page size": "65536\n",
    c2c: Array.from({ length: 10 }, (_, link) => `C2C Link ${link}: 44.712 GB/s`).join("\n"),
    iommu: "arm-smmu-v3.0.auto\n",
    egm: "/dev/egm0\n",
};

export const egmOff: Record<string, string> = {
    ...sourceDocument,
    "nvidia-smi": "NVIDIA GH200 480GB, 97871 MiB, 512 MiB, 595.45.04\n",
    "numactl --hardware": [
        "available: 9 nodes (0-8)",
        `node 0 cpus: ${cpus}`,
        "node 0 size: 490037 MB",
        "node 0 free: 480000 MB",
        "node 1 cpus:",
        "node 1 size: 97280 MB",
        "node 1 free: 96000 MB",
        ...emptyNodes([2, 3, 4, 5, 6, 7, 8]),
        "",
    ].join("\n"),
    free: "               total        used        free\nMem:          587317        9000      570000\n",
    egm: "none\n",
};

/** EGM off, and HBM in the driver's own hands. */
export const recommended: Record<string, string> = {
    ...egmOff,
    "numactl --hardware": [
        "available: 8 nodes (0,2-8)",
        "node 0 cpus: 0-71",
        "node 0 size: 490037 MB",
        "node 0 free: 480000 MB",
        ...emptyNodes([2, 3, 4, 5, 6, 7, 8]),
        "",
    ].join("\n"),
    free: "               total        used        free\nMem:          490037        9000      480000\n",
    "/proc/iomem": "80000000-fffeffff : System RAM\n100000000-77ffffffff : System RAM\n",
    "/proc/driver/nvidia/params": 'CoherentGPUMemoryMode: "driver"\n',
};

/** EGM on, and HBM in the driver's own hands, as after an update to R615: node 1, of the EGM region, stays empty. */
export const egmDriver: Record<string, string> = {
    ...sourceDocument,
    "nvidia-smi": smi.replaceAll("595.45.04", "615.71.09").replace("14920MiB", "    1MiB"),
    "numactl --hardware": [
        "available: 9 nodes (0-1,3-9)",
        "node 0 cpus: 0-71",
        "node 0 size: 8080 MB",
        "node 0 free: 3021 MB",
        ...emptyNodes([1, 3, 4, 5, 6, 7, 8, 9]),
        "",
    ].join("\n"),
    free: "               total        used        free\nMem:            8080        5059        3021\n",
    "/proc/iomem": "80000000-fffeffff : System RAM\n100000000-277ffffff : System RAM\n",
};

/** The nodes of tests/fixtures/node, as a person saved them. SOURCES.md there says where each text is from. */
export const savedNodes = path.join(repositoryRoot, "tests", "fixtures", "node");

/** As assets/node/facts prints it. */
export function asScriptOutput(sections: Record<string, string>): string {
    return Object.entries({ "gh200-facts": "", ...sections, end: "" })
        .map(([name, text]) => `== ${name}\n${text === "" ? "" : `${text.trimEnd()}\n`}`)
        .join("");
}
