import { describe, expect, test } from "vitest";
import { baseReference, resolveSources } from "../../components/platform/openPoints";
import { defaultSources, gitContext } from "../../components/stages/sources";

const commit = "0123456789abcdef0123456789abcdef01234567";

describe("BuildKit's address of a source", () => {
    test.each([
        ["names the commit", { repository: "https://e.com/a.git", ref: "main", commit, submodules: true }, `https://e.com/a.git#${commit}`],
        [
            "leaves submodules out where the source needs none",
            { repository: "https://e.com/a.git", ref: "main", commit, submodules: false },
            `https://e.com/a.git?submodules=false#${commit}`,
        ],
        ["names the ref while it is unpinned", { repository: "https://e.com/a.git", ref: "v1", submodules: true }, "https://e.com/a.git#v1"],
    ])("%s", (_claim, source, address) => {
        expect(gitContext(source)).toBe(address);
    });
});

describe("the source table", () => {
    test("has the source document's fork and versions", () => {
        const named = Object.fromEntries(Object.entries(defaultSources).map(([name, { repository, ref }]) => [name, `${repository}#${ref}`]));
        expect(named).toEqual({
            "src-triton": "https://github.com/triton-lang/triton.git#v3.6.0",
            "src-flashinfer": "https://github.com/flashinfer-ai/flashinfer.git#v0.6.6",
            "src-lmcache": "https://github.com/LMCache/LMCache.git#v0.4.4",
            "src-flash-attention": "https://github.com/Dao-AILab/flash-attention.git#main",
            "src-flash-attn-cutlass": "https://github.com/NVIDIA/cutlass.git#7127592069c2fe01b041e174ba4345ef9b279671",
            "src-cutlass": "https://github.com/NVIDIA/cutlass.git#v4.2.1",
            "src-vllm": "https://sweetapi.com/biondizzle/vllm.git#cmm",
            "src-vllm-flash-attn": "https://github.com/vllm-project/flash-attention.git#29210221863736a08f71a866459e368ad1ac4a95",
            "src-flashmla": "https://github.com/vllm-project/FlashMLA.git#692917b1cda61b93ac9ee2d846ec54e75afe87b1",
            "src-qutlass": "https://github.com/IST-DASLab/qutlass.git#830d2c4537c7396e14a02a46fbddd18b5d107c65",
            "src-infinistore": "https://github.com/bytedance/InfiniStore.git#main",
        });
    });

    test("holds full commits only, over https", () => {
        for (const source of Object.values(defaultSources)) {
            expect(source.repository).toMatch(/^https:\/\/\S+\.git$/);
            expect(source.commit ?? commit).toMatch(/^[0-9a-f]{40}$/);
        }
    });
});

describe("a stack's sources", () => {
    test("are the table's where it names none", () => {
        expect(resolveSources()).toEqual(defaultSources);
    });

    test("keep the table's other facts beside a commit of their own", () => {
        expect(resolveSources({ "src-vllm": { commit } })["src-vllm"]).toEqual({ ...defaultSources["src-vllm"], commit });
    });

    test.each([{ repository: "https://e.com/fork.git" }, { ref: "v0.6.7" }])("lose the table's commit with %j, which need not contain it", (override) => {
        const resolved = resolveSources({ "src-flashinfer": override })["src-flashinfer"]!;
        expect(resolved.commit).toBeUndefined();
        expect(gitContext(resolved)).not.toContain("70b142b75b46aa56e7f675a8e6ec1a977352c91f");
    });

    test("keep a commit that is given together with a repository", () => {
        const override = { repository: "https://e.com/fork.git", commit };
        expect(gitContext(resolveSources({ "src-flashinfer": override })["src-flashinfer"]!)).toBe(`https://e.com/fork.git#${commit}`);
    });
});

test("a base is named by digest where it has one", () => {
    expect(baseReference({ name: "nvcr.io/nvidia/pytorch:26.03-py3" })).toBe("nvcr.io/nvidia/pytorch:26.03-py3");
    expect(baseReference({ name: "a/b:c", digest: "sha256:00" })).toBe("a/b:c@sha256:00");
});
