import { createHash } from "node:crypto";
import { afterEach, describe, expect, test, vi } from "vitest";
import { adoptedProblems } from "../../components/image/adopted";
import { inputName, problemLine } from "../../components/internal/errors";

afterEach(() => vi.unstubAllGlobals());

const digestOf = (text: string) => `sha256:${createHash("sha256").update(text).digest("hex")}`;
const real = { "ai.vllm.gh200.torch": "2.11.0a0", "ai.vllm.gh200.cuda": "13.2", "ai.vllm.gh200.vllm": "0.19.0" };
const release = "registry.example.com/vllm/release:cmm";

/** A stand-in registry with one image, and perhaps another one under the release's name: the image, by digest. */
function registry(labels: Record<string, string>, released?: Record<string, string>, host = "registry.example.com"): string {
    const documents = (of: Record<string, string>) => {
        const config = JSON.stringify({ config: { Labels: of } });
        return [JSON.stringify({ config: { digest: digestOf(config) } }), config];
    };
    const [image, named] = [documents(labels), released === undefined ? [] : documents(released)];
    const served = new Map([...image, ...named].map((text) => [digestOf(text), text]));
    vi.stubGlobal("fetch", (url: string) => {
        const text = url.endsWith("/cmm") ? named[0] : served.get(url.split("/").at(-1) ?? "");
        return Promise.resolve(text === undefined ? new Response("", { status: 404, statusText: "Not Found" }) : new Response(text));
    });
    return `${host}/vllm/release@${digestOf(image[0]!)}`;
}

const refused = async (image: string, of: string | undefined = release) => (await adoptedProblems(image, of, undefined)).map(problemLine);
const path = () => inputName("image.use");

describe("an image that exists already", () => {
    test("is deployed where its labels are those of a build, above the floors", async () => {
        expect(await refused(registry(real))).toEqual([]);
    });

    test("that does not say what is in it", async () => {
        expect(await refused(registry({}))).toEqual(
            ["cuda", "torch", "vllm"].map(
                (what) => expect.stringMatching(new RegExp(`image\\.use: label ai\\.vllm\\.gh200\\.${what}: is missing, so the image does not say`)) as string,
            ),
        );
    });

    test("below a floor", async () => {
        expect(await refused(registry({ ...real, "ai.vllm.gh200.cuda": "12.8" }))).toEqual([
            `${path()}: label ai.vllm.gh200.cuda: 12.8: is older than rule 1 allows; accepted: 13 or newer`,
        ]);
    });

    test("older than what has the release's name, but for a rollback", async () => {
        const image = registry(real, { ...real, "ai.vllm.gh200.vllm": "0.20.0" });
        expect(await refused(image)).toEqual([
            `${path()}: label ai.vllm.gh200.vllm: 0.19.0: is older than 0.20.0, which is released; accepted: 0.20.0 or newer`,
        ]);
        expect((await adoptedProblems(image, undefined, undefined)).map(problemLine)).toEqual([]);
    });

    test("of stand-ins, where others deploy from the registry", async () => {
        const labels = { ...real, "ai.vllm.gh200.stand-in": "true" };
        expect(await refused(registry(labels))).toEqual([expect.stringContaining("the image is made of stand-ins")]);
        expect(await refused(registry(labels, undefined, "localhost:5000"), undefined)).toEqual([]);
    });

    test("that the registry gives another one for", async () => {
        const image = registry(real);
        vi.stubGlobal("fetch", () => Promise.resolve(new Response(JSON.stringify({ config: {} }))));
        expect(await refused(image)).toEqual([
            expect.stringMatching(/has labels that cannot be read: .* answered sha256:\S+; accepted: what has the digest that was asked for/),
        ]);
    });

    test("that is not there, or that nobody can ask for", async () => {
        const gone = `registry.example.com/vllm/release@sha256:${"0".repeat(64)}`;
        registry(real);
        expect(await refused(gone)).toEqual([`${path()}: ${gone}: is not in its registry; accepted: an image that is there`.replace(gone, shown(gone))]);
        vi.stubGlobal("fetch", () => Promise.resolve(new Response("", { status: 401, statusText: "Unauthorized" })));
        expect(await refused(gone)).toEqual([
            expect.stringMatching(/has labels that cannot be read: \S+ answered 401 Unauthorized; accepted: a registry that answers/),
        ]);
    });
});

/** As a line shows a long value. */
const shown = (value: string) => `${value.slice(0, 77)}...`;
