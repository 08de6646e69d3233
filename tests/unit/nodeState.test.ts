import { describe, expect, test } from "vitest";
import { clusterState } from "../../components/node/nodeState";

describe("what of a cluster's nodes makes an old measurement void", () => {
    const node = (name: string, boot: string, labels: Record<string, string>) => ({ metadata: { name, labels }, status: { nodeInfo: { bootID: boot } } });
    const driver = { "nvidia.com/cuda.driver-version.full": "590.48.01", "nvidia.com/gpu.product": "NVIDIA-GH200-480GB" };
    const before = clusterState([node("a", "1", driver), node("b", "2", driver)]);

    test.each([
        ["another driver", [node("a", "1", { ...driver, "nvidia.com/cuda.driver-version.full": "615.10" }), node("b", "2", driver)]],
        ["another boot", [node("a", "3", driver), node("b", "2", driver)]],
        ["a node that came", [node("a", "1", driver), node("b", "2", driver), node("c", "4", driver)]],
        ["a node that went", [node("a", "1", driver)]],
    ])("is %s", (_, nodes) => expect(clusterState(nodes)).not.toBe(before));

    test.each([
        ["the order", [node("b", "2", driver), node("a", "1", driver)]],
        ["any other label", [node("a", "1", { ...driver, team: "ml" }), node("b", "2", driver)]],
    ])("is not %s", (_, nodes) => expect(clusterState(nodes)).toBe(before));
});
