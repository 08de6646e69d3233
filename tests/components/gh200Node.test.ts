import * as pulumi from "@pulumi/pulumi";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Gh200Node } from "../../components/node/gh200Node";
import type { Gh200NodeArgs } from "../../components/node/gh200NodeArgs";
import { record, type Recorder, unknown, valueOf } from "../support/mocks";
import { asScriptOutput, sourceDocument } from "../support/nodeTexts";
import { laterRefusal } from "../support/refusal";

let recorder: Recorder;
const warn = vi.spyOn(pulumi.log, "warn");
beforeEach(async () => {
    warn.mockReset().mockResolvedValue();
    vi.spyOn(pulumi.log, "info").mockResolvedValue();
    recorder = await record();
});
afterEach(() => warn.mockClear());

test("a node creates nothing and says what a pod on it may be promised", async () => {
    const node = new Gh200Node("node", {
        hbmInUseMiB: 14_920,
        egmEnabled: true,
        coherentMode: "numa",
        managedGiB: 475,
        acknowledgeEgmHidesMemory: true,
    });
    await recorder.settled();
    expect(recorder.registrations.map(({ type, name, inputs }) => [type, name, inputs])).toEqual([["gh200-vllm:index:Gh200Node", "node", {}]]);
    expect(
        await valueOf(pulumi.all([node.profile, node.hbmBudgetMiB, node.hostBudgetMiB, node.podLimitMiB, node.shmMiB, node.headroomMiB, node.description])),
    ).toEqual([
        "egm-numa",
        76_909,
        1438,
        7070,
        1024,
        512,
        [
            "profile egm-numa: Linux sees 102.9 GiB, of which 7.9 GiB is LPDDR and 472.0 GiB of LPDDR is hidden by EGM",
            "vLLM: 75.1 GiB of HBM, 1.4 GiB of host memory",
            "pod: 6.9 GiB (hostProcess 4.0 GiB + hostOverflow 1.4 GiB + shm 1.0 GiB + pinned 0.0 GiB + headroom 0.5 GiB)",
            "378.0 GiB of the declared managed memory is unproven and not promised",
        ].join("\n"),
    ]);
});

test("a node that cannot hold the pod ends the program with the reason", () => {
    expect(() => new Gh200Node("node", { egmEnabled: true, coherentMode: "numa" })).toThrow(/^node\.egmEnabled: true: EGM hides 472\.0 GiB/);
});

const seed: Gh200NodeArgs = { hbmInUseMiB: 14_920, egmEnabled: true, coherentMode: "numa", managedGiB: 475, acknowledgeEgmHidesMemory: true };
const [commandType, podType] = ["command:local:Command", "kubernetes:core/v1:Pod"];
const said = asScriptOutput(sourceDocument);
const digest = `sha256:${"0".repeat(64)}`;

test("what was acknowledged, and both readings, are said at every preview and update", async () => {
    for (const preview of [true, false]) {
        warn.mockClear();
        recorder = await record({ preview });
        new Gh200Node("node", { ...seed, acknowledgeDeclaredExceedsMeasured: true });
        await recorder.settled();
        expect(warn).toHaveBeenCalledTimes(1);
        const text = String(warn.mock.calls[0]![0]);
        expect(text).toContain("acknowledged (node.acknowledgeEgmHidesMemory)");
        expect(text).toContain("acknowledged (node.acknowledgeDeclaredExceedsMeasured)");
        expect(text).toMatch(/node 2 of numactl .* first reading: .* second reading: /);
        expect(text).toMatch(/«System RAM \(NVIDIA\)» .* first reading: .* second reading: /);
    }
});

test("a node that needs no acknowledgement says nothing of the kind", async () => {
    new Gh200Node("node", { egmEnabled: false, coherentMode: "driver" });
    await recorder.settled();
    expect(warn).not.toHaveBeenCalled();
});

describe("a probe", () => {
    test("over SSH hands the script to this machine's ssh, which cannot take the host for an option", async () => {
        recorder = await record({ outputs: { [commandType]: { stdout: said } } });
        const node = new Gh200Node("node", { ...seed, acknowledgeDeclaredExceedsMeasured: true, probe: { method: "ssh", host: "root@gh200" } });
        expect((await valueOf(node.measured)).at(-1)).toBe("verdict: the node is what was declared (egm-numa)");
        const { inputs } = recorder.only(commandType, "node-facts");
        expect(inputs).toMatchObject({
            interpreter: ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "--", "root@gh200"],
            create: "sh -s",
            logging: "none",
        });
        expect(String(inputs.stdin)).toContain("section nvidia-smi");
    });

    test("by a Pod asks for no GPU, is the one that is privileged, and is read back from its status", async () => {
        const status = { containerStatuses: [{ state: { terminated: { message: said } } }] };
        recorder = await record({ outputs: { [podType]: { status } } });
        const node = new Gh200Node("node", { ...seed, acknowledgeDeclaredExceedsMeasured: true, probe: { method: "pod", image: `busybox@${digest}`, run: 3 } });
        expect((await valueOf(node.measured)).at(-1)).toBe("verdict: the node is what was declared (egm-numa)");
        const { inputs } = recorder.only(podType, "node-facts") as unknown as { inputs: { metadata: object; spec: { containers: object[] } } };
        expect(inputs.metadata).toMatchObject({ name: "node-facts-3", namespace: "kube-system" });
        expect(JSON.stringify(inputs)).not.toContain('"nvidia.com/gpu":');
        expect(inputs.spec.containers[0]).toMatchObject({
            image: `busybox@${digest}`,
            securityContext: { privileged: true, readOnlyRootFilesystem: true },
            volumeMounts: [{ readOnly: true }],
        });
    });

    test.each([false, true])("holds for what it was measured for; a preview (%s) leaves open what only the node knows", async (preview) => {
        const today = new Date().toISOString().slice(0, 10);
        const status = { containerStatuses: [{ state: { terminated: { message: said } } }] };
        recorder = await record({ preview, outputs: preview ? {} : { [commandType]: { stdout: said }, [podType]: { status } } });
        const declared = { ...seed, acknowledgeDeclaredExceedsMeasured: true };
        new Gh200Node("ssh", { ...declared, probe: { method: "ssh", host: "no-such-host.invalid" } });
        new Gh200Node("pod", { ...declared, probe: { method: "pod", image: `busybox@${digest}` } });
        await vi.waitFor(() => expect(recorder.registrations.map(({ name }) => name)).toEqual(expect.arrayContaining(["ssh-facts", "pod-facts"])));
        const state = preview ? unknown : "unasked";
        const command = recorder.only(commandType, "ssh-facts");
        expect((command.inputs.triggers as unknown[]).slice(1)).toEqual(["no-such-host.invalid", 1, "egm-numa", today, state]);
        expect(command.ignoreChanges).toEqual(preview ? ["triggers[5]"] : []);
        const pod = recorder.only(podType, "pod-facts");
        expect(pod.inputs.metadata).toMatchObject({
            annotations: { "ai.vllm.gh200/declared": `egm-numa ${today}`, "ai.vllm.gh200/node-state": state },
        });
        expect(pod).toMatchObject({ replaceOnChanges: ["metadata.annotations"], deleteBeforeReplace: true });
        expect(pod.ignoreChanges).toEqual(preview ? ['metadata.annotations["ai.vllm.gh200/node-state"]'] : []);
    });

    test("gives the kubelet's advice for the whole node as it was measured, and a preview's for what was declared", async () => {
        const nodes = Array.from({ length: 36 }, (_, id) =>
            [`node ${id} cpus:${id < 4 ? ` ${id * 72}-${id * 72 + 71}` : ""}`, `node ${id} size: ${id < 4 ? 122_509 : 0} MB`, `node ${id} free: 0 MB`].join(
                "\n",
            ),
        );
        const quad = asScriptOutput({
            "nvidia-smi": "NVIDIA GH200 120GB, 97871 MiB, 5 MiB, 591 MiB, Disabled, 590.48.01, 4\n".repeat(4),
            "numactl --hardware": `available: 36 nodes (0-35)\n${nodes.join("\n")}\n`,
        });
        for (const preview of [true, false]) {
            recorder = await record({ preview, outputs: { [commandType]: { stdout: quad } } });
            const node = new Gh200Node("node", { lpddrGiB: 120, egmEnabled: false, coherentMode: "driver", probe: { method: "ssh", host: "gh200" } });
            expect(await valueOf(node.kubeletAdvice)).toEqual([
                expect.stringContaining(`systemReserved: memory: ${preview ? 15_314 - 100 : 4 * 15_314 - 100}Mi`),
                ...(preview ? [] : [expect.stringContaining('max-allowable-numa-nodes: "36"')]),
            ]);
        }
    });

    test("refuses a message that lost its beginning on the kubelet's way, in one line", async () => {
        const status = { containerStatuses: [{ state: { terminated: { message: said.slice(200) } } }] };
        recorder = await record({ outputs: { [podType]: { status } } });
        const error = vi.spyOn(pulumi.log, "error").mockResolvedValue(undefined);
        const line =
            "node: said only part of its facts: the text lost its beginning or its end; ask it over ssh (npm run node:check -- --host NAME), or raise probe.run";
        const refused = await laterRefusal(() => new Gh200Node("node", { ...seed, probe: { method: "pod", image: `busybox@${digest}` } }));
        expect(refused).toEqual([expect.stringContaining(line)]);
        // By itself, under the node's own name.
        expect(error.mock.calls.map(([said]) => said)).toEqual([line]);
        error.mockRestore();
    });

    test("stops an update that declares more than there is, before anything is handed on", async () => {
        recorder = await record({ outputs: { [commandType]: { stdout: said } } });
        const error = vi.spyOn(pulumi.log, "error").mockResolvedValue(undefined);
        let handedOn = false;
        expect(
            await laterRefusal(() => {
                const node = new Gh200Node("node", { ...seed, probe: { method: "ssh", host: "gh200" } });
                node.podLimitMiB.apply(() => (handedOn = true));
            }),
        ).toEqual([
            expect.stringMatching(
                /node\.managedGiB: 475: is more than the measured 103\.5 GiB of HBM and LPDDR; accepted: at most 103; turn EGM off in the BIOS, or set/,
            ),
        ]);
        expect(handedOn).toBe(false);
        // By itself, under the node's own name.
        expect(error.mock.calls.map(([line]) => line)).toEqual([expect.stringMatching(/^node\.managedGiB: 475: is more than the measured [^\n]*$/)]);
        error.mockRestore();
    });

    test("leaves a preview complete before the node was ever measured", async () => {
        recorder = await record({ preview: true });
        const node = new Gh200Node("node", { ...seed, probe: { method: "ssh", host: "gh200" } });
        expect(await valueOf(node.podLimitMiB)).toBe(7070);
    });

    test("never changes what is handed on", async () => {
        const limits = [];
        for (const probe of [undefined, { method: "ssh", host: "gh200" } as const]) {
            recorder = await record({ outputs: { [commandType]: { stdout: said } } });
            limits.push(await valueOf(new Gh200Node("node", { ...seed, acknowledgeDeclaredExceedsMeasured: true, probe }).podLimitMiB));
        }
        expect(limits).toEqual([7070, 7070]);
    });

    test.each([
        [{ method: "ssh" }, "node.probe.host: is missing; accepted: NAME or USER@NAME, for method ssh"],
        [{ method: "pod" }, "node.probe.image: is missing; accepted: REPOSITORY@sha256:DIGEST, for method pod"],
        [{ method: "ssh", host: "-oProxyCommand=reboot" }, "node.probe.host: -oProxyCommand=reboot: is no host; accepted: NAME or USER@NAME"],
        [{ method: "telnet" }, "node.probe.method: telnet: is not accepted; accepted: ssh or pod"],
    ])("is refused as %j", (probe, line) => {
        expect(() => new Gh200Node("node", { ...seed, probe: probe as never })).toThrow(line);
    });
});
