import { expect, test } from "vitest";
import { problemLine } from "../../components/internal/errors";
import { standInProblems } from "../../components/image/standIn";

const marked = { "ai.vllm.gh200.stand-in": "true", "org.opencontainers.image.title": "vllm" };

test("an image of stand-ins gets no name in a registry that others reach", () => {
    expect(standInProblems("atl.vultrcr.com/vllm/gh200-vllm-cmm", marked).map(problemLine)).toEqual([
        "registry.address: atl.vultrcr.com/vllm/gh200-vllm-cmm: the image is made of stand-ins " +
            "(label ai.vllm.gh200.stand-in) and must not get a name that others deploy; accepted: a registry on this machine, " +
            "as the sandbox's; build from the real base and sources: image.base and sources",
    ]);
});

test("it gets one on this machine, and a real image gets one anywhere", () => {
    expect(standInProblems("localhost:5000/vllm", marked)).toEqual([]);
    expect(standInProblems("atl.vultrcr.com/vllm", {})).toEqual([]);
    expect(standInProblems("atl.vultrcr.com/vllm", { "ai.vllm.gh200.stand-in": "false" })).toEqual([]);
});
