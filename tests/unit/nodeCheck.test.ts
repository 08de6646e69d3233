import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import * as yaml from "yaml";
import { beforeAll, describe, expect, test } from "vitest";
import { parseFacts, splitSections } from "../../components/node/facts";
import { asScriptOutput, egmDriver, egmOff, recommended, savedNodes, sourceDocument } from "../support/nodeTexts";
import { repositoryRoot } from "../support/stackFile";
import { temporaryFolders, writeTree } from "../support/temporaryFolder";
import { planNode } from "../../components/node/planNode";
import { capacityJob } from "../../nodecheck/capacityJob";

const folder = temporaryFolders();
const tsx = path.join(repositoryRoot, "node_modules", ".bin", "tsx");

function check(args: string[], env: NodeJS.ProcessEnv = {}): { status: number | null; lines: string[]; error: string } {
    const { status, stdout, stderr } = spawnSync(tsx, [path.join(repositoryRoot, "nodecheck/main.ts"), ...args], {
        encoding: "utf8",
        env: { ...process.env, ...env },
    });
    return { status, lines: stdout.split("\n"), error: stderr };
}

/** A folder of saved text, as a person makes it on the node. */
function savedOn(sections: Record<string, string>): string {
    const saved = folder();
    const names: Record<string, string> = { "numactl --hardware": "numactl.txt", "/proc/iomem": "iomem", "/proc/driver/nvidia/params": "params.txt" };
    for (const [name, text] of Object.entries(sections)) {
        fs.writeFileSync(path.join(saved, names[name] ?? `${name}.txt`), text);
    }
    return saved;
}

/** An ssh that answers as the node would, and notes how it was called. */
function sshOf(sections: Record<string, string>): { PATH: string; called: () => string } {
    const bin = folder();
    fs.writeFileSync(path.join(bin, "answer"), asScriptOutput(sections));
    fs.writeFileSync(path.join(bin, "ssh"), `#!/bin/sh\nprintf '%s\\n' "$@" >${bin}/called\ncat >${bin}/script\ncat ${bin}/answer\n`, { mode: 0o755 });
    return {
        PATH: `${bin}:${process.env.PATH}`,
        called: () => fs.readFileSync(path.join(bin, "called"), "utf8") + fs.readFileSync(path.join(bin, "script"), "utf8"),
    };
}

describe("node:check", () => {
    let seed: ReturnType<typeof check>;
    beforeAll(() => {
        seed = check(["--files", savedOn(sourceDocument)]);
    }, 60_000);

    test("reads the source document's text: profile, free memory, verdict and the setting that mends it", () => {
        expect(seed.status).toBe(0);
        expect(seed.lines).toEqual(
            expect.arrayContaining([
                "profile egm-numa: 7.9 GiB of LPDDR, 95.0 GiB of HBM beside it that Linux counts as memory",
                "EGM's reserved memory is 8192 MiB, inferred from the 8080 MB of LPDDR that Linux has",
                "turn EGM off in the BIOS and set NVreg_CoherentGPUMemoryMode=driver: managed memory then reaches about 478 GiB of LPDDR",
                "verdict: the node is what was declared (egm-numa)",
                "free LPDDR: 3.0 GiB; free HBM: 81.0 GiB",
            ]),
        );
    });

    test("holds the committed stack against the node that it names, and against another", () => {
        const same = check(["--files", savedOn(sourceDocument), "--stack", "gh200"]);
        expect(same.lines).toContain("verdict: the node is what was declared (egm-numa)");
        const other = check(["--files", savedOn(recommended), "--stack", "gh200"]);
        expect(other.status).toBe(1);
        expect(other.lines).toContain("verdict: 2 of the declared facts do not hold");
        expect(other.lines.filter((line) => line.startsWith("node."))).toEqual([
            expect.stringMatching(
                /^node\.egmEnabled: true: but EGM is off: Linux has 478\.6 GiB of LPDDR; accepted: false; turn EGM on in the BIOS, or declare it$/,
            ),
            expect.stringMatching(/^node\.coherentMode: numa: but the driver 595\.45\.04 runs in mode driver; accepted: driver; declare it, or set/),
        ]);
    }, 60_000);

    const saved = (name: string, ...rest: string[]) => check(["--files", path.join(savedNodes, name), ...rest]);

    test.each([
        ["h200", "node: NVIDIA H200: is no GH200; accepted: NVIDIA GH200; name the node that has one"],
        ["h20", "node: NVIDIA H20: is no GH200; accepted: NVIDIA GH200; name the node that has one"],
        ["b200-r610", "node: NVIDIA B200: is no GH200; accepted: NVIDIA GH200; name the node that has one"],
        [
            "gh200-480gb-mig",
            "node: NVIDIA GH200 480GB with MIG enabled: divides its HBM between instances, and a plan is for a whole GPU; accepted: MIG disabled; nvidia-smi -mig 0",
        ],
    ])(
        "refuses %s in one line, alone and against a stack, and says nothing else",
        (name, line) => {
            for (const rest of name === "h200" ? [[], ["--stack", "gh200"]] : [[]]) {
                const { status, lines, error } = saved(name, ...rest);
                expect([status, lines, error]).toEqual([1, [""], `${line}\n`]);
            }
        },
        60_000,
    );

    test.each([
        ["egm-numa", sourceDocument, "profile egm-numa: Linux sees 102.9 GiB, of which 7.9 GiB is LPDDR and 472.0 GiB of LPDDR is hidden by EGM"],
        ["egm-driver", egmDriver, "profile egm-driver: Linux sees 7.9 GiB, of which 7.9 GiB is LPDDR and 472.0 GiB of LPDDR is hidden by EGM"],
        ["numa", egmOff, "profile numa: Linux sees 573.6 GiB, of which 478.6 GiB is LPDDR"],
        ["driver", recommended, "profile driver: Linux sees 478.6 GiB, of which 478.6 GiB is LPDDR"],
    ])(
        "describes a GH200 480GB in profile %s",
        (profile, sections, plan) => {
            const { status, lines } = check(["--files", savedOn(sections)]);
            expect([status, lines.filter((line) => line.startsWith("verdict"))]).toEqual([0, [`verdict: the node is what was declared (${profile})`]]);
            expect(lines).toContain(`  ${plan}`);
        },
        60_000,
    );

    test.each<[string, string[]]>([
        // No dmidecode without root: the product's name says 120 GB, and EGM is off.
        ["gh200-120gb", ["  profile numa: Linux sees 214.6 GiB, of which 119.6 GiB is LPDDR"]],
        [
            "gh200-120gb-quad",
            [
                "4 GH200s on this node: all figures are one's, and a pod with one GPU is promised no more",
                "  profile numa: Linux sees 214.2 GiB, of which 119.2 GiB is LPDDR",
                '  topologyManagerPolicyOptions: max-allowable-numa-nodes: "36", where a topology manager policy is set: the node has 36 NUMA nodes',
            ],
        ],
        [
            "gh200-120gb-quad-driver",
            [
                "  profile driver: Linux sees 119.6 GiB, of which 119.6 GiB is LPDDR",
                '  topologyManagerPolicyOptions: max-allowable-numa-nodes: "32", where a topology manager policy is set: the node has 32 NUMA nodes',
            ],
        ],
        ["gh200-144g-dual", ["2 GH200s on this node: all figures are one's, and a pod with one GPU is promised no more"]],
        ["gh200-480gb-vm", ["  profile numa: Linux sees 525.6 GiB, of which 430.6 GiB is LPDDR"]],
    ])(
        "promises one pod on %s no more than one GPU's measured share",
        (name, expected) => {
            const { status, lines } = saved(name);
            expect(status).toBe(0);
            expect(lines).toEqual(expect.arrayContaining(expected));
            expect(lines.join("\n")).not.toContain("EGM");
        },
        60_000,
    );

    test("says of the committed stack that a virtual machine has less than its 480 GiB", () => {
        const { status, lines } = saved("gh200-480gb-vm", "--stack", "gh200");
        expect(status).toBe(1);
        expect(lines).toContain("node.egmEnabled: true: but EGM is off: Linux has 430.7 GiB of LPDDR; accepted: false; turn EGM on in the BIOS, or declare it");
    }, 60_000);

    test("takes huge pages out of what a pod is promised", () => {
        const meminfo = "HugePages_Total:     250\nHugepagesize:     524288 kB\nHugetlb:        131072000 kB\n";
        const { lines } = check(["--files", savedOn({ ...recommended, meminfo })]);
        expect(lines).toContain("huge pages hold 125.0 GiB of the LPDDR, which no pod of this stack gets");
        expect(lines).toContain("  profile driver: Linux sees 353.6 GiB, of which 353.6 GiB is LPDDR");
    }, 60_000);

    test("reads what PowerShell saved", () => {
        const folder = savedOn(recommended);
        for (const file of fs.readdirSync(folder)) {
            fs.writeFileSync(path.join(folder, file), `\ufeff${fs.readFileSync(path.join(folder, file), "utf8").replaceAll("\n", "\r\n")}`, "utf16le");
        }
        expect(check(["--files", folder]).lines).toContain("verdict: the node is what was declared (driver)");
    }, 60_000);

    test("over ssh sends the script that only reads, and takes no option for a host", () => {
        const { PATH, called } = sshOf(egmOff);
        const answer = check(["--host", "root@gh200"], { PATH });
        expect(answer.status).toBe(0);
        expect(answer.lines).toContain("verdict: the node is what was declared (numa)");
        expect(called()).toMatch(/^-o\nBatchMode=yes\n-o\nConnectTimeout=10\n--\nroot@gh200\nsh -s\n#!\/bin\/sh/);
        const refused = check(["--host", "-oProxyCommand=reboot"], { PATH });
        expect([refused.status, refused.error.trim()]).toEqual([2, "--host: -oProxyCommand=reboot: is no host; accepted: NAME or USER@NAME"]);
    }, 60_000);

    test("says in one line that a machine is no GH200, or cannot be reached", () => {
        const local = check(["--local"]);
        expect([local.status, local.error.trim()]).toEqual([2, "this is no GH200 that can be judged: it shows no HBM (nvidia-smi), or no NUMA nodes"]);
        const bin = folder();
        fs.writeFileSync(path.join(bin, "ssh"), "#!/bin/sh\necho 'ssh: connect to host nowhere port 22: Connection refused' >&2\nexit 255\n", { mode: 0o755 });
        const dead = check(["--host", "nowhere"], { PATH: `${bin}:${process.env.PATH}` });
        expect([dead.status, dead.error.trim()]).toEqual([2, "--host: nowhere: ssh: connect to host nowhere port 22: Connection refused"]);
    }, 60_000);

    test("prints a capacity Job that is bounded by a memory limit", () => {
        const { lines } = check(["--capacity-job", `image@sha256:${"0".repeat(64)}`, "--stack", "gh200"]);
        const job = yaml.parse(lines.join("\n")) as {
            spec: { backoffLimit: number; template: { spec: { containers: { command: string[]; resources: { limits: { memory: string } } }[] } } };
        };
        const [container] = job.spec.template.spec.containers;
        expect(container!.resources.limits.memory).toBe(`${8080 - 1010}Mi`);
        expect(container!.command.slice(-2)).toEqual(["--hbm-mib=76909", `--most-mib=${Math.round((8080 - 1010) * 1.5)}`]);
        expect(job.spec.backoffLimit).toBe(0);
    }, 60_000);

    test("the capacity Job runs where the stack's server runs", () => {
        const [image, script, node] = ["image", "print()", planNode({ egmEnabled: false, coherentMode: "driver" })];
        const spec = (serving: object) =>
            (capacityJob(image, script, node, serving) as { spec: { template: { spec: Record<string, unknown> } } }).spec.template.spec;
        expect(spec({})).toMatchObject({ runtimeClassName: "nvidia", nodeSelector: { "nvidia.com/gpu.product": "NVIDIA-GH200-480GB" } });
        const own = spec({ model: "m", gpuProduct: "NVIDIA-GH200-144G-HBM3e", runtimeClassName: "", tolerations: [{ key: "team" }] });
        expect(own).toMatchObject({
            nodeSelector: { "nvidia.com/gpu.product": "NVIDIA-GH200-144G-HBM3e" },
            tolerations: [{}, { key: "team", operator: "Exists" }],
        });
        expect(own).not.toHaveProperty("runtimeClassName");
    });
});

/**
 * A node in a folder: the script with its paths there, and tools that print what they are given. What the script reads is
 * real text's shape; the folder stands in for the machine.
 */
function scriptOn(node: { smi: string; nodes: [cpus: string, mib: number][]; iomem: string; devices: string; iommus: number }): string {
    const root = folder();
    const links = Array.from({ length: 10 }, (_, link) => `    C2C Link ${link}: 44.712 GB/s\n`).join("");
    const gpus = node.smi.split("\n").filter(Boolean).length;
    writeTree(root, {
        "proc/iomem": node.iomem,
        "proc/meminfo":
            "MemTotal:       901412608 kB\nMemFree:        1 kB\nHugePages_Total:     250\nHugepagesize:     524288 kB\nHugetlb:        131072000 kB\n",
        "proc/driver/nvidia/params": 'CoherentGPUMemoryMode: ""\nEnableUserNUMAManagement: 1\n',
        "proc/driver/nvidia/version":
            "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  590.48.01  Release Build  (dvs-builder@U22-I3-AM24-19-2)  Thu Dec  4\nGCC\n",
        "sys/class/dmi/id/sys_vendor": "HPE\n",
        c2c: Array.from({ length: gpus }, (_, gpu) => `GPU ${gpu}: NVIDIA GH200 120GB (UUID: GPU-0)\n${links}`).join(""),
        smi: node.smi,
        devices: node.devices,
        ...Object.fromEntries(Array.from({ length: node.iommus }, (_, at) => [`sys/class/iommu/arm-smmu-v3.${at}.auto/x`, ""])),
        ...Object.fromEntries(
            node.nodes.flatMap(([cpus, mib], id) => [
                [`sys/devices/system/node/node${id}/cpulist`, `${cpus}\n`],
                [`sys/devices/system/node/node${id}/meminfo`, `Node ${id} MemTotal:       ${mib * 1024} kB\nNode ${id} MemFree:        ${mib * 1000} kB\n`],
            ]),
        ),
    });
    const tool = (name: string, text: string) => {
        fs.mkdirSync(path.join(root, "bin"), { recursive: true });
        fs.writeFileSync(path.join(root, "bin", name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
    };
    tool("nvidia-smi", `case $* in *query-gpu*) cat ${root}/smi ;; *compute-apps*) : ;; *) cat ${root}/c2c ;; esac`);
    tool("dmidecode", `cat ${root}/devices`);
    tool("getconf", "echo 65536");
    const script = fs
        .readFileSync(path.join(repositoryRoot, "assets/node/facts"), "utf8")
        .split("\n")
        .map((line) => (/section /.test(line) ? line : line.replaceAll(/(?<= )\/(proc|sys)\//g, `${root}/$1/`).replaceAll("cat /sys/", `cat ${root}/sys/`)))
        .join("\n");
    const { stdout, stderr } = spawnSync("sh", ["-s"], {
        input: script,
        encoding: "utf8",
        env: { ...process.env, PATH: `${root}/bin:${process.env.PATH}`, LC_ALL: "de_DE.UTF-8" },
    });
    expect(stderr).toBe("");
    return stdout;
}

const superchips = 4;
const quad = {
    smi: Array.from({ length: superchips }, (_, gpu) => `NVIDIA GH200 120GB, 97871 MiB, ${5 + gpu} MiB, 1103 MiB, Disabled, 590.48.01, 4\n`).join(""),
    nodes: Array.from({ length: 36 }, (_, id): [string, number] =>
        id < superchips ? [`${id * 72}-${id * 72 + 71}`, 122_509] : ["", (id - superchips) % 8 === 0 ? 97_280 : 0],
    ),
    // Thirty ranges of the CPUs' memory before the driver's sixteen.
    iomem:
        Array.from(
            { length: 30 },
            (_, at) => `${(0x8000_0000 + at * 0x1000_0000).toString(16)}-${(0x8000_0000 + at * 0x1000_0000 + 0xfff_ffff).toString(16)} : System RAM\n`,
        ).join("") +
        Array.from({ length: 16 }, (_, at) => {
            const from = 0x42_0000_0000n + BigInt(at) * 0x100_0000_0000n;
            return `${from.toString(16)}-${(from + 0x5_f000_0000n - 1n).toString(16)} : System RAM (NVIDIA)\n`;
        }).join(""),
    devices: Array.from({ length: superchips }, () => "Memory Device\n\tSize: 120 GB\n\tVolatile Size: 120 GB\n").join(""),
    iommus: 20,
};

describe("what the facts' script prints", () => {
    test("of a node with four GH200s stays within the kubelet's 4,096 bytes, and says all of it", () => {
        const text = scriptOn(quad);
        expect(Buffer.byteLength(text)).toBeLessThan(4096);
        expect(text).not.toContain("no room for");
        expect(parseFacts(splitSections(text))).toMatchObject({
            gpuName: "NVIDIA GH200 120GB",
            gpus: 4,
            hbmMiB: 97_871,
            hbmInUseMiB: 8,
            hbmReservedMiB: 1103,
            mig: false,
            driverVersion: "590.48.01",
            gpuBusy: false,
            linkGBps: 447,
            memoryTotalMiB: 880_286,
            hugePagesMiB: 128_000,
            onlinedByDriverMiB: 4 * 97_280,
            coherentMode: "numa",
            solderedMiB: 4 * 120 * 1024,
            pageKiB: 64,
            egmDevice: false,
        });
        expect(parseFacts(splitSections(text)).numaNodes).toHaveLength(36);
    });

    test("of a node beyond all measure names the sections that find no room, and is read all the same", () => {
        const text = scriptOn({ ...quad, nodes: Array.from({ length: 64 }, (_, id): [string, number] => [`${id}`, 100_000]), iommus: 200 });
        expect(Buffer.byteLength(text)).toBeLessThan(4096);
        expect(text).toMatch(/^== no room for\n(.*\n)*numactl --hardware\n/m);
        const facts = parseFacts(splitSections(text));
        expect(facts).toMatchObject({ gpus: 4, hugePagesMiB: 128_000 });
        expect([facts.truncated, facts.numaNodes]).toEqual([undefined, undefined]);
    });

    test("on a machine with neither is the same few sections", () => {
        const text = scriptOn({ smi: "", nodes: [["0-1", 24_000]], iomem: "00000000-00000000 : System RAM\n", devices: "", iommus: 0 });
        expect(parseFacts(splitSections(text))).toMatchObject({
            numaNodes: [{ id: 0, firstCpu: 0, sizeMiB: 24_000, freeMiB: 23_437 }],
            onlinedByDriverMiB: undefined,
        });
    });
});

test("the facts' script only reads: it names no command that writes, and no redirection but to nothing", () => {
    const script = fs.readFileSync(path.join(repositoryRoot, "assets/node/facts"), "utf8");
    expect(
        [...script.matchAll(/>+\s*([^\s;]+)/g)]
            .map((match) => match[1])
            .filter((target) => !["/dev/null", "HOST"].includes(target ?? "") && !/^[,'"]/.test(target ?? "")),
    ).toEqual([]);
    expect(script).not.toMatch(/\b(rm|mv|cp|tee|dd|modprobe|mount|sysctl|echo \S+ >)\b/);
    expect(spawnSync("sh", ["-n", "-"], { input: script }).status).toBe(0);
});
