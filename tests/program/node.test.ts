import * as fs from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Answer, emptyBackend, ProgramCopy } from "../live/programCopy";
import { asScriptOutput, sourceDocument } from "../support/nodeTexts";
import { writeTree } from "../support/temporaryFolder";

// A node's probe on the real engine, which decides when it runs again. The node is a stand-in: an ssh that answers from files.
const MINUTE = 60_000;

const PROGRAM = `
import { Gh200Node } from "./components/node/gh200Node";

const day = process.env.TEST_DAY;
Date.prototype.toISOString = () => day + "T12:00:00.000Z";
export const measured = new Gh200Node("node", {
    hbmInUseMiB: 14_920,
    egmEnabled: true,
    coherentMode: "numa",
    managedGiB: 475,
    acknowledgeEgmHidesMemory: true,
    acknowledgeDeclaredExceedsMeasured: true,
    probe: { method: "ssh", host: "root@gh200" },
}).measured;
`;

const STAND_IN_SSH = `#!/bin/sh
cd "$(dirname "$0")"
for command; do :; done
case $command in
    "sh -s") cat >/dev/null; echo measured >>calls; cat facts ;;
    *) cat state ;;
esac
`;

let backend: Awaited<ReturnType<typeof emptyBackend>>;
let program: ProgramCopy;
let node: string;

beforeAll(async () => {
    backend = await emptyBackend();
    program = new ProgramCopy(backend.env);
    program.edit("index.ts", () => PROGRAM);
    node = path.join(program.folder, "node");
    writeTree(node, { ssh: STAND_IN_SSH, facts: asScriptOutput(sourceDocument), state: "590.48.01 CoherentGPUMemoryMode: numa\n", calls: "" });
    await pulumi("2026-12-01", "stack", "init", "probed");
}, 5 * MINUTE);

afterAll(() => {
    program?.remove();
    backend?.remove();
});

async function pulumi(day: string, ...args: string[]): Promise<Answer> {
    const answer = await program.pulumi([...args, ...(args[0] === "stack" ? [] : ["--stack", "probed"])], {
        PATH: `${node}:${backend.env.PATH}`,
        TEST_DAY: day,
    });
    expect(answer.status, answer.output).toBe(0);
    return answer;
}
const up = (day: string) => pulumi(day, "up", "--yes", "--skip-preview");
const measurements = () => fs.readFileSync(path.join(node, "calls"), "utf8").trim().split("\n").filter(Boolean).length;

test(
    "a node is measured again after another driver or coherent mode and on another day, and not before; a preview asks nobody",
    async () => {
        await up("2026-12-01");
        expect(measurements()).toBe(1);
        expect((await up("2026-12-01")).output).toMatch(/3 unchanged/);
        expect(measurements()).toBe(1);

        fs.writeFileSync(path.join(node, "state"), "615.10.02 CoherentGPUMemoryMode: driver\n");
        expect((await pulumi("2026-12-01", "preview")).output).toMatch(/3 unchanged/);
        expect(measurements()).toBe(1);
        await up("2026-12-01");
        expect(measurements()).toBe(2);

        expect((await pulumi("2026-12-02", "preview")).output).toMatch(/Command\s+node-facts\s+replace/);
        await up("2026-12-02");
        expect(measurements()).toBe(3);
        expect((await up("2026-12-02")).output).toMatch(/3 unchanged/);
        expect(measurements()).toBe(3);
    },
    5 * MINUTE,
);
