import { expect, test } from "vitest";
import { gib, memoryTerms } from "../../components/node/describe";
import { memoryPicture } from "../../components/node/picture";
import { planNode } from "../../components/node/planNode";

const seed = planNode({ hbmInUseMiB: 14_920, egmEnabled: true, coherentMode: "numa", managedGiB: 475, acknowledgeEgmHidesMemory: true });
const full = planNode({
    egmEnabled: false,
    coherentMode: "driver",
    managedGiB: 300,
    pinnedMiB: 2048,
    lmcacheMiB: 65_536,
    builderPlace: "beside-serving",
    builderMiB: 65_536,
    hbmInUseMiB: 512,
});

test.each([
    ["the source document's node", seed],
    ["a node with everything on it", full],
])("the picture of %s names every term with its size", (_, { memory, plan }) => {
    const terms = memoryTerms(memory, plan);
    const svg = memoryPicture(terms, plan);
    for (const term of terms) {
        expect(svg).toContain(`>${term.name}</text>`);
        expect(svg).toContain(`>${gib(term.mib)}</text>`);
    }
    expect(svg).not.toMatch(/NaN|undefined|Infinity/);
});

test("each bar is as wide as all its pieces, which are as wide as their share", () => {
    const terms = memoryTerms(full.memory, full.plan);
    const bars = [...memoryPicture(terms, full.plan).matchAll(/<rect x="([\d.]+)" y="\d+" width="([\d.]+)" height="56"/g)].map(
        ([, x, width]) => [Number(x), Number(width)] as const,
    );
    expect(bars).toHaveLength(terms.length);
    terms.forEach((term, index) => {
        const total = terms.filter(({ where }) => where === term.where).reduce((sum, { mib }) => sum + mib, 0);
        expect(bars[index]![1]).toBeCloseTo((term.mib / total) * 912, 1);
    });
    expect(bars.reduce((sum, [, width]) => sum + width, 0)).toBeCloseTo(2 * 912, 0);
});
