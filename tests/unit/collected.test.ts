import * as pulumi from "@pulumi/pulumi";
import { afterEach, expect, test, vi } from "vitest";
import { collectedProblems } from "../../components/image/collected";
import { problemLine } from "../../components/internal/errors";

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
