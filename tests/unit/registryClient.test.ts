import { createHash } from "node:crypto";
import { afterEach, describe, expect, test, vi } from "vitest";
import { imageLabels, listTags, tagDigest } from "../../components/image/registryClient";

const credentials = { username: "push", password: "s3cret" };
const digestOf = (text: string) => `sha256:${createHash("sha256").update(text).digest("hex")}`;

/** A registry that answers as the table says, and remembers who was told what. */
function registry(answers: Record<string, { status?: number; body?: string; headers?: Record<string, string> }>): { url: string; authorization: string }[] {
    const seen: { url: string; authorization: string }[] = [];
    vi.stubGlobal("fetch", (url: string, { headers }: { headers: Record<string, string> }) => {
        seen.push({ url, authorization: headers.Authorization ?? "" });
        const { status = 200, body = "{}", headers: given } = answers[url.split("?")[0]!] ?? { status: 404 };
        return Promise.resolve(new Response(body, { status, headers: given }));
    });
    return seen;
}

afterEach(() => vi.unstubAllGlobals());

const list = "https://r.example/v2/ns/repo/tags/list";
const manifest = "https://r.example/v2/ns/repo/manifests/";

describe("a registry's password", () => {
    test.each(["https://evil.example/v2/x", "http://r.example/v2/x", "https://r.example:444/v2/x", "//evil.example/x"])(
        "does not follow a list to %s",
        async (next) => {
            const seen = registry({ [list]: { body: '{"tags":["a"]}', headers: { link: `<${next}>; rel="next"` } } });
            await expect(listTags("r.example/ns/repo", credentials)).rejects.toThrow("accepted: the registry itself");
            expect(seen.map(({ url }) => new URL(url).origin)).toEqual(["https://r.example"]);
        },
    );

    test("follows a list within the registry", async () => {
        const seen = registry({
            [list]: { body: '{"tags":["a"]}', headers: { link: '</v2/ns/repo/tags/more?n=100>; rel="next"' } },
            "https://r.example/v2/ns/repo/tags/more": { body: '{"tags":["b"]}' },
        });
        expect(await listTags("r.example/ns/repo", credentials)).toEqual(["a", "b"]);
        expect(seen).toHaveLength(2);
    });

    test.each(["http://r.example/token", "http://evil.example/token", "ftp://r.example/token", "token", ""])("is not told to a login at %j", async (realm) => {
        const seen = registry({ [`${manifest}t`]: { status: 401, headers: { "www-authenticate": `Bearer realm="${realm}",service="r"` } } });
        await expect(tagDigest("r.example/ns/repo:t", credentials)).rejects.toThrow("accepted: an https address");
        expect(seen).toHaveLength(1);
    });

    test("is told to a login over https, and the token to the registry", async () => {
        const body = "{}";
        vi.stubGlobal("fetch", (url: string, { headers }: { headers: Record<string, string> }) => {
            if (url.startsWith("https://auth.example/token")) {
                return Promise.resolve(new Response('{"token":"t0ken"}'));
            }
            return Promise.resolve(
                headers.Authorization === "Bearer t0ken"
                    ? new Response(body)
                    : new Response("", { status: 401, headers: { "www-authenticate": 'Bearer realm="https://auth.example/token",service="r"' } }),
            );
        });
        expect(await tagDigest("r.example/ns/repo:t", credentials)).toBe(digestOf(body));
    });
});

describe("what is asked for by digest", () => {
    const config = JSON.stringify({ config: { Labels: { a: "b" } } });
    const image = JSON.stringify({ config: { digest: digestOf(config) } });

    test("is taken where it has that digest", async () => {
        registry({ [manifest + digestOf(image)]: { body: image }, [`https://r.example/v2/ns/repo/blobs/${digestOf(config)}`]: { body: config } });
        expect(await imageLabels(`r.example/ns/repo@${digestOf(image)}`)).toEqual({ a: "b" });
    });

    test.each([
        ["manifest", { [manifest + digestOf(image)]: { body: `${image} ` } }],
        [
            "configuration",
            { [manifest + digestOf(image)]: { body: image }, [`https://r.example/v2/ns/repo/blobs/${digestOf(config)}`]: { body: '{"config":{}}' } },
        ],
    ])("is refused where the %s is another", async (_, answers) => {
        registry(answers);
        await expect(imageLabels(`r.example/ns/repo@${digestOf(image)}`)).rejects.toThrow("accepted: what has the digest that was asked for");
    });
});
