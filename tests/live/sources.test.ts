import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { builtImages, LiveSandbox, type Machine } from "./liveSandbox";
import { localCheckout, PrivateSource } from "./ownSources";
import type { Answer } from "./programCopy";
import { repositoryRoot } from "../support/stackFile";

// Sources of the user's own: one that needs a token, one that is edited. Its tests in order: each starts from what the one before left.
const MINUTE = 60_000;

let sandbox: LiveSandbox;
let machine: Machine;

beforeAll(async () => {
    sandbox = new LiveSandbox(process.env.GH200_TEST_SANDBOX);
    sandbox.start();
    machine = await sandbox.machine();
    ok(await machine.up());
}, 60 * MINUTE);

// A sandbox that was given is left as it is.
afterAll(() => (process.env.GH200_TEST_SANDBOX === undefined ? sandbox?.down() : sandbox?.forget()), 10 * MINUTE);

function ok(answer: Answer): Answer {
    expect(answer.status, answer.output.slice(-4000)).toBe(0);
    return answer;
}

describe("a source in a private repository", () => {
    let source: PrivateSource;
    beforeAll(async () => (source = await PrivateSource.start()));
    afterAll(() => source?.stop());

    test(
        "cannot be built without its host's token, and the update says so",
        async () => {
            const answer = await machine.upWith(await source.config(machine));
            expect(answer.status).not.toBe(0);
            expect(answer.output).toMatch(/gh200-build-lmcache/);
            expect(answer.output).toMatch(/[Aa]uthentication|could not read Username|terminal prompts disabled/);
        },
        5 * MINUTE,
    );

    test(
        "is built with it; the token is in no state, layer, log or record of a build",
        async () => {
            const answer = ok(await machine.upWith(await source.config(machine, source.token)));
            expect(builtImages(answer.output)).toContain("gh200-build-lmcache");
            expect(answer.output).not.toContain(source.token);
            expect(sandbox.stateText()).not.toContain(source.token);
            expect(sandbox.buildctl("debug", "histories", "--format", "{{json .}}")).not.toContain(source.token);
            // BuildKit's layers, git directories and records, the registry's blobs, every daemon's log.
            expect(
                spawnSync("grep", ["--recursive", "--files-with-matches", "--binary-files=text", "--devices=skip", source.token, sandbox.folder], {
                    encoding: "utf8",
                }).stdout,
            ).toBe("");
            const label = await releasedLabel("ai.vllm.gh200.source.lmcache");
            expect(label).toBe(source.commit);
        },
        10 * MINUTE,
    );
});

describe("a source that somebody is changing", () => {
    test(
        "is built and deployed by digest, without a release name, until it is committed",
        async () => {
            const { repository, config } = localCheckout(machine);
            const commit = repository.git("rev-parse", "HEAD");
            fs.appendFileSync(path.join(repository.work, "setup.py"), "\n# changed\n");
            const tried = ok(await machine.upWith(config()));
            expect(tried.output).toContain("gh200-vllm:sources.src-lmcache: checkouts/lmcache.git.work: has changes that no commit holds");
            const { deployRef, releaseRef } = await machine.outputs();
            expect(deployRef).toMatch(/-stages@sha256:[0-9a-f]{64}$/);
            expect(releaseRef).toBe("");
            const pods = JSON.parse(sandbox.kubectl("get", "pods", "--namespace=vllm", "--field-selector=status.phase=Running", "--output=json")) as PodList;
            expect(pods.items.map(({ spec }) => spec.containers[0]?.image)).toContain(deployRef);

            const committed = repository.commit({});
            expect(committed).not.toBe(commit);
            ok(await machine.upWith(config()));
            expect((await machine.outputs()).deployRef).not.toMatch(/-stages@/);
            expect(await releasedLabel("ai.vllm.gh200.source.lmcache")).toBe(committed);
            ok(await machine.up());
        },
        20 * MINUTE,
    );
});

describe("a stage of the team's own", () => {
    test(
        "is built first, alone, and vLLM finds its plug-in in the pod",
        async () => {
            fs.cpSync(path.join(repositoryRoot, "examples/eighth-stage/plugin"), path.join(machine.program.folder, "plugin"), { recursive: true });
            const config = machine.configOf((sections) =>
                Object.assign(sections["gh200-vllm:stages"]!, { additional: { "build-plugin": { dockerfile: "plugin/Dockerfile" } }, order: ["build-plugin"] }),
            );
            const { output } = ok(await machine.upWith(config));
            const built = builtImages(output);
            expect(built).toEqual(expect.arrayContaining(["gh200-build-plugin", "gh200-additional", "gh200-image"]));
            // The seven stand as they were.
            expect(built.filter((name) => name.startsWith("gh200-build-"))).toEqual(["gh200-build-plugin"]);
            expect(output).toContain("stage 1 of 8, build-plugin");
            const [pod] = (
                JSON.parse(sandbox.kubectl("get", "pods", "--namespace=vllm", "--field-selector=status.phase=Running", "--output=json")) as {
                    items: { metadata: { name: string } }[];
                }
            ).items;
            const found = "import importlib.metadata as m; print([e.value for e in m.entry_points(group='vllm.general_plugins')])";
            expect(sandbox.kubectl("exec", pod!.metadata.name, "--namespace=vllm", "--", "python3", "-c", found)).toContain("team_plugin:register");
            fs.appendFileSync(path.join(machine.program.folder, "plugin/Dockerfile"), "\nRUN false\n");
            const failed = await machine.upWith(config);
            expect(failed.status).not.toBe(0);
            expect(failed.output).toContain("gh200-build-plugin");
            ok(await machine.up());
        },
        20 * MINUTE,
    );
});

interface PodList {
    items: { spec: { containers: { image: string }[] } }[];
}

/** A label of the image that has the release name. */
async function releasedLabel(name: string): Promise<string | undefined> {
    const manifest = (await (await sandbox.registryGet("/v2/vllm/gh200-vllm-cmm/manifests/cmm-cmm")).json()) as { config: { digest: string } };
    const { config } = (await (await sandbox.registryGet(`/v2/vllm/gh200-vllm-cmm/blobs/${manifest.config.digest}`)).json()) as {
        config: { Labels: Record<string, string> };
    };
    return config.Labels[name];
}
