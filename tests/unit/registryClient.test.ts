import * as fs from "node:fs";
import * as http from "node:http";
import * as https from "node:https";
import * as net from "node:net";
import type { AddressInfo } from "node:net";
import * as path from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { tagDigest, wantsLogin } from "../../components/image/registryClient";
import { writeCertificatePair } from "../support/certificatePair";
import { temporaryFolders } from "../support/temporaryFolder";

const temporaryFolder = temporaryFolders();
const servers: net.Server[] = [];
afterEach(() => servers.splice(0).forEach((server) => server.close()));

async function listening(server: net.Server): Promise<number> {
    servers.push(server);
    await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
    return (server.address() as AddressInfo).port;
}

const failure = (host: string) =>
    wantsLogin(host).then(
        () => "no failure",
        (error: Error) => error.message,
    );

describe("a registry that cannot be asked is named with its host and why", () => {
    test("where nothing listens", async () => {
        const server = net.createServer();
        const port = await listening(server);
        await new Promise((done) => servers.pop()!.close(done));
        expect(await failure(`127.0.0.1:${port}`)).toMatch(new RegExp(`^127\\.0\\.0\\.1:${port}: nothing listens there \\(.*ECONNREFUSED.*\\)$`));
    });

    test("where its name has no address", async () => {
        expect(await failure("nowhere.invalid")).toMatch(/^nowhere\.invalid: its name has no address \(.*(ENOTFOUND|EAI_AGAIN).*\)$/);
    });

    test("where its authority is not known here, with what makes Node.js trust it", async () => {
        const port = await listening(https.createServer(pair(), (_, response) => response.end()));
        expect(await failure(`127.0.0.1:${port}`)).toMatch(
            new RegExp(
                `^127\\.0\\.0\\.1:${port}: its certificate is signed by an authority that is not trusted \\(.*\\); have Node\\.js trust its authority \\(NODE_EXTRA_CA_CERTS\\)$`,
            ),
        );
    });
});

test("a token server that refuses is named, not the registry's second question", async () => {
    let port = 0;
    const server = http.createServer((request, response) => {
        if (request.url?.startsWith("/token") === true) {
            response.writeHead(403).end();
        } else {
            response.writeHead(401, { "www-authenticate": `Bearer realm="http://127.0.0.1:${port}/token",service="r",scope="repository:a:pull"` }).end();
        }
    });
    port = await listening(server);
    await expect(tagDigest(`127.0.0.1:${port}/a:b`)).rejects.toThrow(`http://127.0.0.1:${port}/token answered 403 Forbidden`);
});

function pair(): { cert: Buffer; key: Buffer } {
    const folder = temporaryFolder();
    writeCertificatePair(folder, "registry");
    return { cert: fs.readFileSync(path.join(folder, "registry.pem")), key: fs.readFileSync(path.join(folder, "registry.key")) };
}
