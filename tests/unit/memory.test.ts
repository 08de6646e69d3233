import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { cards } from "../fixtures/hbm-cards.json";
import { describePlan, kubeletAdvice, memoryTerms, readings } from "../../components/node/describe";
import {
    hbmReserveMiB,
    hbmTerms,
    memoryProfile,
    type NodeMemory,
    osView,
    planMemory,
    type PodDemand,
    podExcessMiB,
    systemReserveMiB,
} from "../../components/node/memory";

/** The source document's GH200 by profile. */
const part = { hbmMiB: 97_871, hbmInUseMiB: 14_920, lpddrMiB: 491_520, egmReservedMiB: 8192 };
const profiles = {
    "egm-numa": { ...part, egmEnabled: true, coherentMode: "numa" },
    "egm-driver": { ...part, egmEnabled: true, coherentMode: "driver" },
    numa: { ...part, egmEnabled: false, coherentMode: "numa" },
    driver: { ...part, egmEnabled: false, coherentMode: "driver" },
} as const satisfies Record<string, NodeMemory>;

/** 475 GiB of managed memory, as the source document claims, with the defaults of the other terms. */
const demand: PodDemand = {
    hostProcessMiB: 4096,
    shmMiB: 1024,
    pinnedMiB: 0,
    headroomMiB: 512,
    managedMiB: 475 * 1024,
    lmcacheMiB: 0,
    builderMiB: 0,
    builderPlace: "elsewhere",
};

test.each(Object.entries(profiles))("a node is in profile %s by EGM and coherent mode", (profile, node) => {
    expect(memoryProfile(node)).toBe(profile);
});

describe("Linux sees", () => {
    test("with EGM and NUMA the source document's numactl: 8,080 + 97,280 MB, the 102 GiB of free", () => {
        expect(osView(profiles["egm-numa"])).toEqual({ lpddrMiB: 8_080, onlinedHbmMiB: 97_280, hiddenMiB: 483_328, totalMiB: 105_360 });
        expect(Math.floor(105_360 / 1024)).toBe(102);
    });

    test("with EGM and the driver's own management 8,080 MB, once a driver upgrade changes the mode", () => {
        expect(osView(profiles["egm-driver"])).toEqual({ lpddrMiB: 8_080, onlinedHbmMiB: 0, hiddenMiB: 483_328, totalMiB: 8_080 });
    });

    test("without EGM and with NUMA NVIDIA's kernel log: 490,037 + 97,280 MB", () => {
        expect(osView(profiles.numa)).toEqual({ lpddrMiB: 490_037, onlinedHbmMiB: 97_280, hiddenMiB: 0, totalMiB: 587_317 });
    });

    test("without EGM and with the driver's own management 490,037 MB", () => {
        expect(osView(profiles.driver)).toEqual({ lpddrMiB: 490_037, onlinedHbmMiB: 0, hiddenMiB: 0, totalMiB: 490_037 });
    });
});

describe("huge pages", () => {
    // 250 of 512 MiB, as an OpenShift guide for virtual machines on a GH200 sets them.
    const held = { ...profiles.driver, hugePagesMiB: 128_000 };

    test("leave Linux and the pod that much less", () => {
        expect(osView(held)).toEqual({ lpddrMiB: 362_037, onlinedHbmMiB: 0, hiddenMiB: 0, totalMiB: 362_037 });
        expect(planMemory(held, demand).podTermsMiB.hostOverflow).toBeLessThanOrEqual(362_037 - 16_384 - 4096 - 1024 - 512);
        expect(osView({ ...profiles["egm-numa"], hugePagesMiB: 9000 }).lpddrMiB).toBe(0);
    });

    test("are a piece of their own in the picture, which still adds up to what is soldered on", () => {
        const terms = memoryTerms(held, planMemory(held, demand)).filter(({ where }) => where === "lpddr");
        expect(terms.find(({ name }) => name === "huge pages")?.mib).toBe(128_000);
        expect(terms.reduce((sum, { mib }) => sum + mib, 0)).toBe(491_520);
    });
});

test("reserves are an eighth of LPDDR up to 16 GiB, and 4 percent of HBM", () => {
    expect(systemReserveMiB(osView(profiles["egm-numa"]))).toBe(1010);
    expect(systemReserveMiB(osView(profiles.driver))).toBe(16_384);
    expect(hbmReserveMiB(profiles.driver)).toBe(3915);
    // 1 GiB where that is more, but never above an eighth: the sandbox's 2 GiB.
    expect(hbmReserveMiB({ ...profiles.driver, hbmMiB: 16_384 })).toBe(1024);
    expect(hbmReserveMiB({ ...profiles.driver, hbmMiB: 2048 })).toBe(256);
});

describe("of the HBM only what remains is promised", () => {
    test("driver, others, CUDA context and reserve come first", () => {
        expect(hbmTerms(profiles["egm-numa"])).toEqual({ driver: 1103, inUse: 14_920, context: 1024, reserve: 3915, budget: 76_909 });
        expect(hbmTerms({ ...profiles.driver, hbmInUseMiB: 0, hbmReservedMiB: 591 })).toMatchObject({ driver: 591, context: 1024, budget: 92_341 });
    });

    // The launcher's side of the same cards: tests/runtime/test_account.py.
    test.each(cards)("$card: $budgetMiB MiB", ({ boardMiB, inUseMiB, cudaTotalMiB, contextMiB, budgetMiB }) => {
        const node = { ...profiles.driver, hbmMiB: boardMiB, hbmInUseMiB: inUseMiB };
        const plan = planMemory(node, demand);
        expect(plan.hbmBudgetMiB).toBe(budgetMiB);
        // What CUDA has free on the real card keeps the whole reserve, and vLLM's own flag asks for no more than that.
        const freeMiB = cudaTotalMiB - inUseMiB - contextMiB;
        expect(freeMiB - plan.hbmBudgetMiB).toBeGreaterThanOrEqual(plan.hbmReserveMiB);
        expect(plan.gpuMemoryUtilization * cudaTotalMiB).toBeLessThanOrEqual(freeMiB);
        expect(plan.gpuMemoryUtilization * cudaTotalMiB).toBeGreaterThan(plan.hbmBudgetMiB - cudaTotalMiB / 1000);
    });
});

describe("475 GiB of managed memory", () => {
    test("are 1.4 GiB of host memory in the source document's profile; the rest is unproven", () => {
        const plan = planMemory(profiles["egm-numa"], demand);
        expect(plan).toEqual({
            profile: "egm-numa",
            view: { lpddrMiB: 8_080, onlinedHbmMiB: 97_280, hiddenMiB: 483_328, totalMiB: 105_360 },
            hbmBudgetMiB: 76_909,
            hbmReserveMiB: 3915,
            gpuMemoryUtilization: 0.794,
            hostBudgetMiB: 1438,
            podTermsMiB: { hostProcess: 4096, hostOverflow: 1438, shm: 1024, pinned: 0, headroom: 512 },
            podLimitMiB: 7070,
            systemReserveMiB: 1010,
            besideMiB: { lmcache: 0, builder: 0 },
            builderPlace: "elsewhere",
            builderMostMiB: 0,
            unprovenMiB: 387_091,
        });
        expect(podExcessMiB(plan)).toBe(0);
        expect(describePlan(plan)).toEqual([
            "profile egm-numa: Linux sees 102.9 GiB, of which 7.9 GiB is LPDDR and 472.0 GiB of LPDDR is hidden by EGM",
            "vLLM: 75.1 GiB of HBM, 1.4 GiB of host memory",
            "pod: 6.9 GiB (hostProcess 4.0 GiB + hostOverflow 1.4 GiB + shm 1.0 GiB + pinned 0.0 GiB + headroom 0.5 GiB)",
            "378.0 GiB of the declared managed memory is unproven and not promised",
        ]);
    });

    test("are promised in full without EGM, in either mode", () => {
        for (const node of [profiles.numa, profiles.driver]) {
            const plan = planMemory(node, demand);
            expect(plan.hostBudgetMiB).toBe(388_529);
            expect(plan.podLimitMiB).toBe(394_161);
            expect(plan.unprovenMiB).toBe(0);
        }
        expect(describePlan(planMemory(profiles.driver, demand))).toEqual([
            "profile driver: Linux sees 478.6 GiB, of which 478.6 GiB is LPDDR",
            "vLLM: 75.1 GiB of HBM, 379.4 GiB of host memory",
            "pod: 384.9 GiB (hostProcess 4.0 GiB + hostOverflow 379.4 GiB + shm 1.0 GiB + pinned 0.0 GiB + headroom 0.5 GiB)",
        ]);
    });
});

test("a pod whose fixed terms alone exceed the real LPDDR is too large by exactly the difference", () => {
    const plan = planMemory(profiles["egm-numa"], { ...demand, hostProcessMiB: 8192 });
    expect(plan.hostBudgetMiB).toBe(0);
    expect(podExcessMiB(plan)).toBe(8192 + 1024 + 512 - (8_080 - 1010));
});

describe("for any node and any demand", () => {
    const mib = (max: number) => fc.integer({ min: 0, max });
    const anyNode: fc.Arbitrary<NodeMemory> = fc.record({
        hbmMiB: mib(300_000),
        hbmReservedMiB: fc.option(mib(2_000), { nil: undefined }),
        hbmInUseMiB: mib(300_000),
        lpddrMiB: fc.integer({ min: 8192, max: 2_000_000 }),
        egmEnabled: fc.boolean(),
        egmReservedMiB: fc.constant(8192),
        coherentMode: fc.constantFrom("numa", "driver"),
        provenHostMiB: fc.option(mib(2_000_000), { nil: undefined }),
    });
    const anyDemand: fc.Arbitrary<PodDemand> = fc.record({
        hostProcessMiB: mib(64_000),
        shmMiB: mib(64_000),
        pinnedMiB: mib(64_000),
        headroomMiB: mib(64_000),
        managedMiB: mib(3_000_000),
        lmcacheMiB: mib(64_000),
        builderMiB: mib(64_000),
        builderPlace: fc.constantFrom("elsewhere", "serving-stops", "beside-serving"),
    });
    const holds = (claim: (node: NodeMemory, demand: PodDemand) => void) => fc.assert(fc.property(anyNode, anyDemand, claim), { numRuns: 1000 });

    test("what Linux sees and what is hidden never exceed what is soldered on", () => {
        holds((node) => {
            const view = osView(node);
            expect(view.lpddrMiB + view.hiddenMiB).toBeLessThanOrEqual(node.lpddrMiB);
            expect(view.onlinedHbmMiB).toBeLessThanOrEqual(node.hbmMiB);
            expect(view.totalMiB).toBe(view.lpddrMiB + view.onlinedHbmMiB);
            expect(Math.min(view.lpddrMiB, view.onlinedHbmMiB, view.hiddenMiB)).toBeGreaterThanOrEqual(0);
        });
    });

    test("the terms of the HBM add up to the board's, and the promise is what they leave", () => {
        holds((node, wish) => {
            const { hbmBudgetMiB, gpuMemoryUtilization } = planMemory(node, wish);
            const terms = hbmTerms(node);
            expect(hbmBudgetMiB).toBe(terms.budget);
            expect(hbmBudgetMiB).toBeGreaterThanOrEqual(0);
            expect(hbmBudgetMiB === 0 || Object.values(terms).reduce((sum, term) => sum + term, 0) === node.hbmMiB).toBe(true);
            expect(gpuMemoryUtilization).toBeGreaterThanOrEqual(0);
            expect(gpuMemoryUtilization).toBeLessThan(1);
        });
    });

    test("the limit is the sum of its terms, and where the pod fits, system and pod fit the real LPDDR", () => {
        holds((node, wish) => {
            const plan = planMemory(node, wish);
            const sum = Object.values(plan.podTermsMiB).reduce((total, term) => total + term, 0);
            expect(plan.podLimitMiB).toBe(sum);
            const needed = plan.podLimitMiB + plan.besideMiB.lmcache + plan.besideMiB.builder + systemReserveMiB(plan.view);
            expect(podExcessMiB(plan)).toBe(Math.max(0, needed - plan.hostBudgetMiB - plan.view.lpddrMiB));
            // Overflow is never what makes a pod too large, and HBM onlined as memory is never counted on.
            const backing = plan.view.lpddrMiB + (node.provenHostMiB === undefined ? 0 : plan.view.hiddenMiB);
            expect(plan.hostBudgetMiB === 0 || needed <= backing).toBe(true);
        });
    });

    test("promised and unproven memory are together what was asked for beyond the HBM", () => {
        holds((node, wish) => {
            const plan = planMemory(node, wish);
            expect(plan.hostBudgetMiB + plan.unprovenMiB).toBe(Math.max(0, wish.managedMiB - node.hbmMiB));
            expect(Math.min(plan.hostBudgetMiB, plan.unprovenMiB)).toBeGreaterThanOrEqual(0);
        });
    });

    test("more LPDDR or a larger wish never lowers the host budget, a larger process never raises it", () => {
        fc.assert(
            fc.property(anyNode, anyDemand, mib(100_000), (node, wish, more) => {
                const { hostBudgetMiB } = planMemory(node, wish);
                expect(planMemory({ ...node, lpddrMiB: node.lpddrMiB + more }, wish).hostBudgetMiB).toBeGreaterThanOrEqual(hostBudgetMiB);
                expect(planMemory(node, { ...wish, managedMiB: wish.managedMiB + more }).hostBudgetMiB).toBeGreaterThanOrEqual(hostBudgetMiB);
                expect(planMemory(node, { ...wish, hostProcessMiB: wish.hostProcessMiB + more }).hostBudgetMiB).toBeLessThanOrEqual(hostBudgetMiB);
            }),
            { numRuns: 1000 },
        );
    });

    test("the coherent mode changes what free says and never what is promised", () => {
        holds((node, wish) => {
            const numa = planMemory({ ...node, coherentMode: "numa" }, wish);
            const driver = planMemory({ ...node, coherentMode: "driver" }, wish);
            expect(numa.podLimitMiB).toBe(driver.podLimitMiB);
            expect(numa.hbmBudgetMiB).toBe(driver.hbmBudgetMiB);
        });
    });

    test("EGM never adds to what is promised, where no capacity test was run", () => {
        holds((node, wish) => {
            const on = planMemory({ ...node, egmEnabled: true, provenHostMiB: undefined }, wish);
            const off = planMemory({ ...node, egmEnabled: false, provenHostMiB: undefined, lpddrMiB: Math.max(node.lpddrMiB, 16_384) }, wish);
            expect(on.hostBudgetMiB).toBeLessThanOrEqual(off.hostBudgetMiB);
        });
    });

    test("the overflow is never above what the capacity test proved", () => {
        holds((node, wish) => {
            expect(planMemory(node, wish).hostBudgetMiB).toBeLessThanOrEqual(node.provenHostMiB ?? Infinity);
        });
    });

    test("every piece of either side is counted once: they add up to what is soldered on", () => {
        fc.assert(
            fc.property(anyNode, anyDemand, (node, wish) => {
                const plan = planMemory(node, wish);
                fc.pre(podExcessMiB(plan) === 0 && plan.hbmBudgetMiB > 0);
                const sum = (where: string) =>
                    memoryTerms(node, plan)
                        .filter((term) => term.where === where)
                        .reduce((total, { mib: size }) => total + size, 0);
                expect(sum("hbm")).toBe(node.hbmMiB);
                expect(sum("lpddr")).toBe(node.lpddrMiB);
            }),
            { numRuns: 500 },
        );
    });

    test("a builder and a pod that run at once are never promised the same memory", () => {
        holds((node, wish) => {
            const plan = planMemory(node, { ...wish, builderPlace: "beside-serving" });
            fc.pre(podExcessMiB(plan) === 0);
            const real = plan.podLimitMiB - plan.podTermsMiB.hostOverflow + wish.builderMiB + wish.lmcacheMiB + plan.systemReserveMiB;
            expect(real).toBeLessThanOrEqual(plan.view.lpddrMiB);
            expect(wish.builderMiB).toBeLessThanOrEqual(plan.builderMostMiB);
        });
    });
});

describe("a builder on the node", () => {
    test("may have what Linux sees, HBM included, while vLLM is scaled to zero", () => {
        const plan = planMemory(profiles["egm-numa"], { ...demand, builderPlace: "serving-stops", builderMiB: 101 * 1024 });
        expect(plan.builderMostMiB).toBe(105_360 - 1010);
        expect(plan.hostBudgetMiB).toBe(1438);
        expect(describePlan(plan)).toContain("builder on this node: up to 101.9 GiB, while vLLM is scaled to zero; serving stops during a build");
    });

    test("takes its memory from the overflow where vLLM goes on serving", () => {
        const plan = planMemory(profiles.driver, { ...demand, builderPlace: "beside-serving", builderMiB: 128 * 1024 });
        // 490,037 less 16 GiB, the pod's own terms and the builder's 128 GiB.
        expect(plan.hostBudgetMiB).toBe(490_037 - 16_384 - 5632 - 131_072);
        expect(describePlan(plan)).toContain("builder on this node: 128.0 GiB of the same LPDDR; serving goes on during a build");
    });
});

test("an LMCache server takes its memory from the same LPDDR", () => {
    const plan = planMemory(profiles.driver, { ...demand, managedMiB: 3_000_000, lmcacheMiB: 100_000 });
    expect(plan.hostBudgetMiB).toBe(490_037 - 16_384 - 5632 - 100_000);
});

test("with EGM the overflow follows the capacity test, where one was run", () => {
    expect(planMemory({ ...profiles["egm-numa"], provenHostMiB: 300_000 }, demand).hostBudgetMiB).toBe(300_000);
    expect(planMemory({ ...profiles["egm-numa"], provenHostMiB: 0 }, demand).hostBudgetMiB).toBe(0);
});

describe("both readings", () => {
    test("of node 2 and of «System RAM (NVIDIA)» are given for the source document's node", () => {
        expect(readings(profiles["egm-numa"])).toEqual([
            "node 2 of numactl (97,280 MB): first reading: LPDDR that EGM did not take; second reading: HBM, onlined by the driver",
            "«System RAM (NVIDIA)» of /proc/iomem: first reading: the EGM region; second reading: HBM; the driver uses that name for nothing else",
            "managed memory: first reading: 472.7 GiB; second reading: 95.6 GiB of HBM and what is free of 7.9 GiB; the plan follows the second",
        ]);
    });

    test("are not needed without EGM", () => {
        expect(readings(profiles.numa)).toEqual([]);
    });
});

describe("the kubelet should", () => {
    test.each([
        // What is left allocatable is always 490,037 - 16,384 or 8,080 - 1,010 MiB; 100 MiB are the eviction threshold's.
        ["egm-numa", 105_360 - (8080 - 1010) - 100, "10"],
        ["numa", 587_317 - (490_037 - 16_384) - 100, "9"],
    ] as const)("keep the HBM of profile %s out of allocatable memory, and accept its NUMA nodes", (profile, reserved, nodes) => {
        const advice = kubeletAdvice(planMemory(profiles[profile], demand));
        expect(advice[0]).toBe(`systemReserved: memory: ${reserved}Mi, so that allocatable is the real LPDDR less the system's reserve`);
        expect(advice[1]).toContain(`max-allowable-numa-nodes: "${nodes}"`);
        expect(advice[2]).toContain("memoryManagerPolicy: None");
    });

    test("accept the nodes without memory that stay in driver mode, where they are more than eight", () => {
        const plan = planMemory(profiles.driver, demand);
        expect(kubeletAdvice(plan, { numaNodes: 8 })).toHaveLength(1);
        expect(kubeletAdvice(plan, { numaNodes: 36, superchips: 4 })).toEqual([
            `systemReserved: memory: ${4 * 16_384 - 100}Mi, so that allocatable is the real LPDDR less the system's reserve`,
            'topologyManagerPolicyOptions: max-allowable-numa-nodes: "36", where a topology manager policy is set: the node has 36 NUMA nodes',
        ]);
        expect(kubeletAdvice(planMemory(profiles["egm-driver"], demand))[1]).toContain('max-allowable-numa-nodes: "9"');
    });

    test("reserve the system's share alone where HBM is the driver's", () => {
        expect(kubeletAdvice(planMemory(profiles.driver, demand))).toEqual([
            "systemReserved: memory: 16284Mi, so that allocatable is the real LPDDR less the system's reserve",
        ]);
    });
});
