import * as dockerBuild from "@pulumi/docker-build";
import * as pulumi from "@pulumi/pulumi";
import { afterEach, describe, expect, test, vi } from "vitest";
import { collectedProblems, lookInPreview } from "../../components/image/collected";
import { problemLine } from "../../components/internal/errors";
import { imageType, record } from "../support/mocks";

afterEach(() => vi.unstubAllGlobals());

const digest = (letter: string) => `sha256:${letter.repeat(64)}`;
const stage = (letter: string) => ({ location: `docker-image://registry.example.com/stages@${digest(letter)}` });

/** A registry that answers every digest but those that are gone. */
function registry(gone: Record<string, number>): string[] {
    const asked: string[] = [];
    vi.stubGlobal("fetch", (url: string, { headers }: { headers: Record<string, string> }) => {
        asked.push(`${headers.Authorization ?? "nobody"} ${url}`);
        const status = Object.entries(gone).find(([letter]) => url.includes(digest(letter)))?.[1] ?? 200;
        return Promise.resolve(new Response("{}", { status }));
    });
    return asked;
}

test("every image that is gone is named, with how it is built again; folders and addresses are nobody's to ask for", async () => {
    const asked = registry({ b: 404, c: 404 });
    const named = { one: stage("a"), two: stage("b"), three: stage("c"), folder: { location: ".gh200/contexts/x" }, source: { location: "https://x/y.git#1" } };
    const lines = (await collectedProblems({ context: { named } })).map(problemLine);
    expect(lines).toEqual(
        ["b", "c"].map(
            (letter) =>
                `image registry.example.com/stages@${digest(letter)}: is gone from its registry, and this build takes files from it; accepted: an image that is there; pulumi up --refresh builds it again`,
        ),
    );
    expect(asked).toHaveLength(3);
});

test("its registry's user asks, whose password a hook gets as a secret", async () => {
    const asked = registry({});
    const registries = pulumi.secret([
        { address: "other.example.com", username: "x", password: "y" },
        { address: "registry.example.com", username: "puller", password: "hunter2" },
    ]);
    expect(await collectedProblems({ context: { named: { one: stage("a") } }, registries })).toEqual([]);
    expect(asked[0]).toMatch(new RegExp(`^Basic ${Buffer.from("puller:hunter2").toString("base64")} https://registry\\.example\\.com/v2/stages/manifests/`));
});

test("a registry that refuses or fails is left to the build", async () => {
    registry({ a: 403, b: 500 });
    expect(await collectedProblems({ context: { named: { one: stage("a"), two: stage("b") } } })).toEqual([]);
});

test("an image of nothing else asks nobody", async () => {
    const asked = registry({});
    expect(await collectedProblems({})).toEqual([]);
    expect(asked).toEqual([]);
});

describe("a preview", () => {
    afterEach(() => {
        vi.unstubAllEnvs();
        vi.restoreAllMocks();
    });
    /** Of `{}`, which the stand-in registry answers: the client holds an answer to its digest. */
    const empty = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    const reference = `registry.example.com/stages@${digest("a")}`;
    const gone = `image ${reference}: is gone from its registry, though nothing here changed; pulumi up --refresh builds it again`;
    const unanswered = new RegExp(
        `^image ${reference}: cannot be looked for: https://registry\\.example\\.com/v2/\\S+ answered 500 ; accepted: a registry that answers`,
    );

    test.each([
        ["that was asked to look names what is gone", true, "true", 404, gone],
        ["that was asked to look says that a registry does not tell", true, "true", 500, unanswered],
        ["that was asked to look says nothing of what is there", true, "true", 200, undefined],
        ["asks no registry by itself", true, "", 404, undefined],
        ["alone looks: an update asks before each build", false, "true", 404, undefined],
    ])("%s", async (_, dryRun, variable, status, line) => {
        vi.stubEnv("GH200_PREVIEW_REGISTRY", variable);
        const asked = registry({ a: status });
        const recorder = await record({ preview: dryRun, outputs: { [imageType]: { digest: status === 200 ? empty : digest("a") } } });
        const warn = vi.spyOn(pulumi.log, "warn").mockResolvedValue();
        const image = new dockerBuild.Image("stage", { push: false });
        lookInPreview(image, pulumi.interpolate`registry.example.com/stages@${image.digest}`, image.registries);
        await recorder.settled();
        await vi.waitFor(() => expect(asked.length).toBe(dryRun && variable !== "" ? 1 : 0));
        await new Promise((done) => setTimeout(done, 20));
        const said = warn.mock.calls.map(([text]) => String(text));
        expect(said).toEqual(line === undefined ? [] : [typeof line === "string" ? line : (expect.stringMatching(line) as string)]);
    });

    test("looks for no image that is yet to be built", async () => {
        vi.stubEnv("GH200_PREVIEW_REGISTRY", "true");
        const asked = registry({});
        const recorder = await record({ preview: true });
        const image = new dockerBuild.Image("stage", { push: false });
        lookInPreview(image, pulumi.interpolate`registry.example.com/stages@${image.digest}`, undefined);
        await recorder.settled();
        expect(asked).toEqual([]);
    });
});
