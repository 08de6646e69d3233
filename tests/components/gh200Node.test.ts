import * as pulumi from "@pulumi/pulumi";
import { beforeEach, expect, test } from "vitest";
import { Gh200Node } from "../../components/node/gh200Node";
import { record, type Recorder, valueOf } from "../support/mocks";

let recorder: Recorder;
beforeEach(async () => {
    recorder = await record();
});

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
        await valueOf(
            pulumi.all([node.profile, node.hbmBudgetMiB, node.hostBudgetMiB, node.podLimitMiB, node.shmMiB, node.headroomMiB, node.description]),
        ),
    ).toEqual([
        "egm-numa",
        79_036,
        1438,
        7070,
        1024,
        512,
        [
            "profile egm-numa: Linux sees 102.9 GiB, of which 7.9 GiB is LPDDR and 472.0 GiB of LPDDR is hidden by EGM",
            "vLLM: 77.2 GiB of HBM, 1.4 GiB of host memory",
            "pod: 6.9 GiB (hostProcess 4.0 GiB + hostOverflow 1.4 GiB + shm 1.0 GiB + pinned 0.0 GiB + headroom 0.5 GiB)",
            "378.0 GiB of the declared managed memory is unproven and not promised",
        ].join("\n"),
    ]);
});

test("a node that cannot hold the pod ends the program with the reason", () => {
    expect(() => new Gh200Node("node", { egmEnabled: true, coherentMode: "numa" })).toThrow(/^node\.egmEnabled: true: EGM hides 472\.0 GiB/);
});
