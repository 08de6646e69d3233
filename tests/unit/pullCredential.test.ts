import * as http from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { pullCredentialProblems } from "../../components/image/pullCredential";
import { problemLine } from "../../components/internal/errors";

const servers: http.Server[] = [];
afterEach(() => servers.splice(0).forEach((server) => server.close()));

interface StandIn {
    /** Actions by `USER REPOSITORY`; a user without any is not known. */
    grants: Record<string, string[]>;
    /** Repositories that are there. */
    there?: string[];
    /** How its tokens look: distribution's say what they are for, others say nothing. Without tokens it asks for Basic. */
    tokens?: "jwt" | "opaque" | "none";
}

/** A stand-in registry with its token server: its host. It hides what is not there, as Docker Hub does. */
async function registry({ grants, there = [], tokens = "jwt" }: StandIn): Promise<string> {
    const server = http.createServer((request, response) => {
        const { port } = server.address() as AddressInfo;
        const url = new URL(request.url ?? "", `http://127.0.0.1:${port}`);
        const [kind = "", value = ""] = (request.headers.authorization ?? "").split(" ");
        const named = (name: string) => Object.keys(grants).some((key) => key.startsWith(`${name} `));
        const allowed = (user: string, repository: string) => grants[`${user} ${repository}`] ?? [];
        const user = kind === "Basic" ? Buffer.from(value, "base64").toString("utf8").split(":")[0]! : "";
        const [, repository = ""] = /^\/v2\/(.+)\/manifests\//.exec(url.pathname) ?? [];
        if (url.pathname === "/token") {
            const [, name = "", actions = ""] = /^repository:(.+):(.+)$/.exec(url.searchParams.get("scope") ?? "") ?? [];
            const granted = allowed(user, name).filter((action) => actions.split(",").includes(action));
            const claims = { user, access: name === "" ? [] : [{ type: "repository", name, actions: granted }] };
            const payload = Buffer.from(JSON.stringify(claims)).toString("base64url");
            response.writeHead(named(user) ? 200 : 401).end(JSON.stringify({ token: tokens === "jwt" ? `e30.${payload}.sig` : `opaque-${payload}` }));
            return;
        }
        const known = kind === "Bearer" ? (JSON.parse(Buffer.from(value.split(/[.-]/)[1]!, "base64url").toString("utf8")) as { user: string }).user : user;
        const may = repository === "" ? named(known) : there.includes(repository) && allowed(known, repository).includes("pull");
        const challenge =
            tokens === "none" ? 'Basic realm="r"' : `Bearer realm="http://127.0.0.1:${port}/token",service="r",scope="repository:${repository}:pull"`;
        response.writeHead(may ? 200 : 401, may ? {} : { "www-authenticate": challenge }).end("{}");
    });
    servers.push(server);
    await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
    return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const pushes = { username: "pusher", password: "a" };
const asked = async (host: string) =>
    (await pullCredentialProblems([`${host}/vllm/release:cmm`], { username: "puller", password: "b" }, pushes)).map(problemLine);
const pusher = { "pusher vllm/release": ["pull", "push"] };

describe("a user who pulls for the pods", () => {
    test("is let pass where the registry grants pull alone", async () => {
        expect(await asked(await registry({ grants: { ...pusher, "puller vllm/release": ["pull"] }, there: ["vllm/release"] }))).toEqual([]);
    });

    test("who may push too", async () => {
        const host = await registry({ grants: { ...pusher, "puller vllm/release": ["pull", "push"] }, there: ["vllm/release"] });
        expect(await asked(host)).toEqual([
            `registry.pullUsername: puller: may push to ${host}/vllm/release: whoever reads the pods' pull secret could replace what is deployed; accepted: a user who may pull alone`,
        ]);
    });

    test("who may push before anything was pushed", async () => {
        const host = await registry({ grants: { ...pusher, "puller vllm/release": ["pull", "push"] } });
        expect(await asked(host)).toEqual([expect.stringContaining(`may push to ${host}/vllm/release`)]);
    });

    test("is refused by name where the registry does not take the login", async () => {
        const host = await registry({ grants: pusher });
        expect(await asked(host)).toEqual([
            `registry.pullUsername: puller: is refused by ${host}; accepted: a user whom the registry takes, with that user's password`,
        ]);
    });

    test("is refused where what is there is closed to it", async () => {
        const host = await registry({ grants: { ...pusher, "puller vllm/other": ["pull"] }, there: ["vllm/release"] });
        expect(await asked(host)).toEqual([
            `registry.pullUsername: puller: may not pull ${host}/vllm/release, so no pod could start; accepted: a user who may pull it`,
        ]);
    });

    test("is let pass before the first build, where a registry hides what is not there", async () => {
        expect(await asked(await registry({ grants: { ...pusher, "puller vllm/release": ["pull"] } }))).toEqual([]);
    });

    test.each(["opaque", "none"] as const)("is not said to push where the registry does not tell (tokens: %s)", async (tokens) => {
        const host = await registry({ grants: { ...pusher, "puller vllm/release": ["pull", "push"] }, there: ["vllm/release"], tokens });
        expect(await asked(host)).toEqual([]);
    });

    test("is refused where the registry cannot be asked", async () => {
        const host = await registry({ grants: pusher });
        await new Promise((done) => servers.pop()!.close(done));
        expect(await asked(host)).toEqual([
            expect.stringMatching(/^registry\.pullUsername: puller: cannot be tried: 127\.0\.0\.1:\d+: nothing listens there /),
        ]);
    });
});
