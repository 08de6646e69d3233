import { describe, expect, test } from "vitest";
import type { Gh200NodeArgs } from "../../components/node/gh200NodeArgs";
import { planNode as plannedNode } from "../../components/node/planNode";
import { refusal } from "../support/refusal";
import { stackConfig } from "../support/stackFile";

/** Node of a committed stack file. */
const nodeOf = (stack: string) => JSON.parse(stackConfig(stack)["gh200-vllm:node"]!) as Gh200NodeArgs;

const planNode = (args: Gh200NodeArgs) => plannedNode(args).plan;

const plain: Gh200NodeArgs = { egmEnabled: false, coherentMode: "driver" };

describe("the committed stacks", () => {
    test("gh200: the pod gets what Linux still has, not the 475 GiB that were declared", () => {
        const plan = planNode(nodeOf("gh200"));
        expect(plan.profile).toBe("egm-numa");
        expect(plan.hbmBudgetMiB).toBe(76_909);
        expect(plan.hostBudgetMiB).toBe(1438);
        expect(plan.podLimitMiB).toBe(7070);
        expect(plan.unprovenMiB).toBe(387_091);
    });

    test("sandbox: 1 GiB of overflow beside 0.9 GiB of HBM", () => {
        const plan = planNode(nodeOf("sandbox"));
        expect(plan.profile).toBe("driver");
        expect(plan.hbmBudgetMiB).toBe(768);
        expect(plan.hostBudgetMiB).toBe(1024);
        expect(plan.podLimitMiB).toBe(1024 + 1024 + 64 + 256);
        expect(plan.unprovenMiB).toBe(0);
    });
});

test("the defaults are the source document's part, with no overflow beyond the HBM", () => {
    const plan = planNode(plain);
    expect(plan.hbmBudgetMiB).toBe(97_871 - 1103 - 1024 - 3915);
    expect(plan.podTermsMiB).toEqual({ hostProcess: 4096, hostOverflow: 0, shm: 1024, pinned: 0, headroom: 512 });
});

describe("a node is refused", () => {
    test.each(["numa", "driver"] as const)("where EGM hides memory and nobody has acknowledged it (%s)", (coherentMode) => {
        expect(refusal(() => planNode({ egmEnabled: true, coherentMode }))).toEqual([
            "node.egmEnabled: true: EGM hides 472.0 GiB of LPDDR from Linux, where managed memory cannot be shown to reach it; " +
                "accepted: egmEnabled: false (recommended, with coherentMode: driver); " +
                "turn EGM off in the BIOS, or set node.acknowledgeEgmHidesMemory: true to run with what Linux still has",
        ]);
    });

    test("where the pod does not fit the real LPDDR, though the node's capacity would", () => {
        expect(refusal(() => planNode({ egmEnabled: true, coherentMode: "numa", acknowledgeEgmHidesMemory: true, hostProcessMiB: 16_384 }))).toEqual([
            "node: pod of 17.5 GiB: exceeds the real LPDDR less the system's reserve by 10.6 GiB, though the node's capacity may say that it fits; " +
                "accepted: at most 6.9 GiB; lower node.hostProcessMiB, shmMiB, pinnedMiB or headroomMiB, or turn EGM off in the BIOS",
        ]);
    });

    test("for both at once", () => {
        const lines = refusal(() => planNode({ egmEnabled: true, coherentMode: "numa", hostProcessMiB: 16_384 }));
        expect(lines.map((line) => line.split(":")[0])).toEqual(["node.egmEnabled", "node"]);
    });

    test.each([0, 4096, 8191, 8193, 16_384])("with %d MiB reserved in the BIOS", (egmReservedMiB) => {
        expect(refusal(() => planNode({ ...plain, egmReservedMiB }))).toEqual([
            `node.egmReservedMiB: ${egmReservedMiB}: is refused; accepted: 8192, the only reserved value that works`,
        ]);
    });

    test("that has less LPDDR than EGM reserves", () => {
        const lines = refusal(() => planNode({ egmEnabled: true, coherentMode: "numa", acknowledgeEgmHidesMemory: true, lpddrGiB: 4 }));
        expect(lines[0]).toBe("node.lpddrGiB: 4: is less than EGM's reserved memory; accepted: 8 or more");
    });

    test("whose HBM is in use already", () => {
        expect(refusal(() => planNode({ ...plain, hbmInUseMiB: 97_871 }))).toEqual([
            "node.hbmInUseMiB: 97871: leaves nothing of the HBM; accepted: below 97871 less a reserve",
        ]);
    });

    test("for every wrong input at once", () => {
        const args = { egmEnabled: "yes", coherentMode: "cdmm", hbmMiB: 1.5, shmMiB: -1, lpddr: 480 } as never;
        expect(refusal(() => planNode(args))).toEqual([
            "node.hbmMiB: 1.5: is no whole number of MiB",
            "node.egmEnabled: yes: is not accepted; accepted: true or false; Extended GPU Memory in the BIOS",
            "node.coherentMode: cdmm: is not accepted; accepted: numa or driver; see /proc/driver/nvidia/params",
            "node.shmMiB: -1: is too small; accepted: 0 or more",
            "node.lpddr: is an unknown key; remove it, or see docs/configuration.md for the keys there are",
        ]);
    });

    test("without the two facts that no guess is safe for", () => {
        expect(refusal(() => planNode({} as never))).toEqual([
            "node.egmEnabled: is missing; accepted: true or false; Extended GPU Memory in the BIOS",
            "node.coherentMode: is missing; accepted: numa or driver; see /proc/driver/nvidia/params",
        ]);
    });
});
