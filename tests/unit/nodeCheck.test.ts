import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import * as yaml from "yaml";
import { beforeAll, describe, expect, test } from "vitest";
import { asScriptOutput, egmOff, recommended, sourceDocument } from "../support/nodeTexts";
import { repositoryRoot } from "../support/stackFile";
import { temporaryFolders } from "../support/temporaryFolder";

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
        expect(container!.command.slice(-2)).toEqual(["--hbm-mib=77165", `--most-mib=${Math.round((8080 - 1010) * 1.5)}`]);
        expect(job.spec.backoffLimit).toBe(0);
    }, 60_000);
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
